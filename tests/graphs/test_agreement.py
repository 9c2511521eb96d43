import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import graphs
from jaxkd._errors import InvalidInputError


def neighborhoods(seed, k):
    """Twelve examples, each followed by k - 1 others, and their classes."""
    rng = np.random.default_rng(seed)
    others = [rng.permutation(np.delete(np.arange(12), i))[: k - 1] for i in range(12)]
    rows = np.concatenate([np.arange(12)[:, None], np.array(others)], axis=1)
    return rows.astype(np.int32), rng.integers(0, 3, 12).astype(np.int32)


def shares(wanted, rows):
    """By sets: of the neighbors but oneself, the share that is wanted."""
    sets = [set(map(int, row)) - {i} for i, row in enumerate(rows)]
    return [len(s & wanted[i]) / len(s) for i, s in enumerate(sets)]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_agreement_is_the_share_of_neighbors_in_both_sets(transform):
    (a, _), (b, _) = neighborhoods(0, k=6), neighborhoods(1, k=4)
    found = transform(graphs.neighbor_agreement)(a, b)
    np.testing.assert_allclose(found, shares([set(map(int, r)) for r in b], a))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_purity_is_the_share_of_neighbors_of_the_same_class(transform):
    rows, labels = neighborhoods(0, k=6)
    alike = [set(np.flatnonzero(labels == label).tolist()) for label in labels]
    found = transform(graphs.neighbor_purity)(rows, labels)
    np.testing.assert_allclose(found, shares(alike, rows))


def test_the_order_of_neighbors_does_not_matter():
    (a, labels), (b, _) = neighborhoods(0, k=6), neighborhoods(1, k=6)
    np.testing.assert_array_equal(
        graphs.neighbor_agreement(a[:, ::-1], b), graphs.neighbor_agreement(a, b)
    )
    np.testing.assert_array_equal(
        graphs.neighbor_purity(a[:, ::-1], labels), graphs.neighbor_purity(a, labels)
    )


def test_without_other_neighbors_the_share_is_one():
    alone = jnp.arange(3)[:, None]
    np.testing.assert_array_equal(graphs.neighbor_agreement(alone, alone), 1.0)
    np.testing.assert_array_equal(graphs.neighbor_purity(alone, jnp.arange(3)), 1.0)


def test_graphs_of_different_size_raise():
    agreement, purity = map(  # past the shape checks of the tests
        inspect.unwrap, (graphs.neighbor_agreement, graphs.neighbor_purity)
    )
    with pytest.raises(InvalidInputError, match="indices_b must have one row per"):
        agreement(np.zeros((3, 2), int), np.zeros((4, 2), int))
    with pytest.raises(InvalidInputError, match="labels must have one row per"):
        purity(np.zeros((3, 2), int), np.zeros(4, int))
