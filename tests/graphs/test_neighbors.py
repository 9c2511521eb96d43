import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from reference import holistic as reference

from jaxkd import graphs
from jaxkd._errors import InvalidInputError


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (12, 7)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 4, 11, 12])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_neighbors_match_the_definition(logits, k, transform):
    fn = transform(functools.partial(graphs.nearest_neighbors, k=k))
    np.testing.assert_array_equal(fn(logits), reference.nearest_neighbors(logits, k))


@pytest.mark.parametrize("k", [1, 4, 12])
def test_the_most_similar_vectors_match_the_definition(logits, k):
    lengths = np.random.default_rng(3).uniform(0.1, 10, (12, 1)).astype(np.float32)
    found = graphs.most_similar(logits * lengths, k=k)
    np.testing.assert_array_equal(found, reference.most_similar(logits, k))


def test_vmap_over_batches_gives_the_graph_of_each_batch(logits):
    batches = np.stack([logits, logits[::-1]])
    fn = functools.partial(graphs.nearest_neighbors, k=4)
    np.testing.assert_array_equal(jax.vmap(fn)(batches), [fn(b) for b in batches])


def test_permuting_the_batch_permutes_the_graph(logits):
    order = np.random.default_rng(1).permutation(len(logits))
    neighbors = np.asarray(graphs.nearest_neighbors(logits, k=5))
    permuted = np.asarray(graphs.nearest_neighbors(logits[order], k=5))
    np.testing.assert_array_equal(order[permuted], neighbors[order])


def test_a_constant_added_to_a_row_changes_no_neighbor(logits):
    exact = np.round(logits * 64) / 64  # so that the sums below are not rounded
    shift = np.random.default_rng(2).integers(-1000, 1000, (12, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        graphs.nearest_neighbors(exact + shift, k=5),
        graphs.nearest_neighbors(exact, k=5),
    )


@pytest.mark.parametrize("k", [1, 3])
def test_every_example_is_its_own_first_neighbor_even_among_equals(k):
    neighbors = graphs.nearest_neighbors(jnp.ones((6, 4)), k=k)
    np.testing.assert_array_equal(neighbors[:, 0], np.arange(6))


def test_the_graph_of_a_batch_smaller_than_k_is_complete(logits):
    neighbors = graphs.nearest_neighbors(logits[:3], k=8)
    np.testing.assert_array_equal(np.sort(neighbors), [[0, 1, 2]] * 3)


def test_the_graph_of_one_example_is_a_loop(logits):
    np.testing.assert_array_equal(graphs.nearest_neighbors(logits[:1], k=8), [[0]])


def test_confident_and_masked_predictions_are_compared(logits):
    confident = np.where(np.eye(4)[[0, 1, 0, 1]] > 0, 1e4, -1e4).astype(np.float32)
    masked = np.where(confident > 0, 0.0, -np.inf).astype(np.float32)
    for z in (confident, masked):
        neighbors = np.sort(graphs.nearest_neighbors(z, k=2))
        np.testing.assert_array_equal(neighbors, [[0, 2], [1, 3], [0, 2], [1, 3]])


def test_almost_one_hot_predictions_are_distinguished():
    # The similarities differ by a few parts in 10⁶: too little for bfloat16 products.
    z = jnp.array([[9.0, 0.0, 0.0], [9.0, 3.0, 0.0], [9.0, 2.0, 0.0]])
    np.testing.assert_array_equal(graphs.nearest_neighbors(z, k=2)[0], [0, 2])


def test_no_gradient_flows_through_the_graph(logits):
    def total(z):
        features = jax.nn.softmax(jnp.asarray(logits))
        return graphs.propagate(features, graphs.nearest_neighbors(z, k=3)).sum()

    np.testing.assert_array_equal(jax.grad(total)(logits), 0.0)


def test_bfloat16_logits_are_compared_in_float32(logits):
    half = jnp.asarray(logits, jnp.bfloat16)
    np.testing.assert_array_equal(
        graphs.nearest_neighbors(half, k=4),
        graphs.nearest_neighbors(half.astype(jnp.float32), k=4),
    )


def test_errors_name_the_argument(logits):
    with pytest.raises(InvalidInputError, match="k must be at least 1, got 0"):
        graphs.nearest_neighbors(logits, k=0)
    with pytest.raises(TypeError, match="logits must be floating point"):
        inspect.unwrap(graphs.nearest_neighbors)(np.ones((2, 2), int), k=1)
    with pytest.raises(InvalidInputError, match="one row per example"):
        inspect.unwrap(graphs.propagate)(logits, np.zeros((3, 2), np.int32))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_propagation_is_the_mean_over_neighbors(transform):
    rng = np.random.default_rng(3)
    features, neighbors = rng.normal(size=(9, 5)), rng.integers(0, 9, (9, 4))
    np.testing.assert_allclose(
        transform(graphs.propagate)(features, neighbors),
        reference.propagate(features, neighbors),
        rtol=1e-14,
    )


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_propagation_is_its_transpose():
    rng = np.random.default_rng(4)
    features, neighbors = rng.normal(size=(9, 5)), rng.integers(0, 9, (9, 4))
    matrix = np.zeros((9, 9))
    np.add.at(matrix, (np.arange(9)[:, None], neighbors), 0.25)
    cotangent = rng.normal(size=(9, 5))
    fn = functools.partial(graphs.propagate, neighbors=neighbors)
    (gradient,) = jax.vjp(fn, features)[1](jnp.asarray(cotangent))
    np.testing.assert_allclose(gradient, matrix.T @ cotangent, atol=1e-14)
    check_grads(fn, (features,), order=1)


def test_bfloat16_features_are_averaged_in_float32():
    features = jnp.array([[1.0], [1.0 / 128]], jnp.bfloat16)
    mean = graphs.propagate(features, jnp.array([[0, 1], [1, 0]]))
    assert mean.dtype == jnp.float32
    np.testing.assert_array_equal(mean, (1 + 1 / 128) / 2)
