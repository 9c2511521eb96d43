import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from memory_support import BATCH, choose, problem, weights

from jaxkd import memory
from jaxkd._errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TEMPERATURE, OFFSET = 0.3, 0.7


def by_definition(anchors, table, negatives):
    """Value [anchors, batch] and gradient [anchors, batch, dim]."""
    anchors, table = np.float64(anchors), np.float64(table)
    x = anchors @ table.T / TEMPERATURE - OFFSET
    w = weights(negatives)
    value = np.einsum("br,abr->ab", w, np.log1p(np.exp(x)))
    slope = np.einsum("br,abr,rd->abd", w, 1 / (1 + np.exp(-x)), table)
    return value, slope / TEMPERATURE


def fused(negatives, table, chunk_size=None, offset=OFFSET):
    return lambda anchors: memory.negative_softplus_sum(
        anchors,
        table,
        negatives,
        temperature=TEMPERATURE,
        offset=offset,
        chunk_size=chunk_size,
    )


def differentiated(fn, anchors):
    """The values, and the gradient of their sum, in one compiled program."""

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_value(a):
        value = fn(a)
        return value.sum(), value

    return gradient_and_value(jnp.asarray(anchors))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "chunk_size"),
    [
        ("all", None),
        ("sampled", 5),
        ("shared", 5),
        ("listed", 5),
        pytest.param("all", 7, marks=pytest.mark.slow),
    ],
)
def test_value_and_gradient_match_the_definition(name, chunk_size):
    anchors, table, labels, row_labels = problem()
    negatives = choose(name, labels, row_labels)
    fn = fused(negatives, table, chunk_size)
    gradient, value = differentiated(fn, anchors)
    expected = by_definition(anchors, table, negatives)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_derivatives_hold_in_both_modes_and_to_second_order():
    anchors, table, labels, row_labels = problem()
    negatives = choose("sampled", labels, row_labels)
    check_grads(
        jax.jit(fused(negatives, table, 7)), (anchors,), order=2, modes=["fwd", "rev"]
    )


def test_the_offset_is_a_constant():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)
    slope = jax.grad(lambda o: fused(negatives, table, offset=o)(anchors).sum())
    assert jax.jit(slope)(OFFSET) == 0.0


def test_without_negatives_value_and_gradient_are_zero():
    anchors, table, _, row_labels = problem(dtype=np.float32)
    same = np.zeros_like(row_labels)
    fn = fused(choose("all", same[:BATCH], same), table)
    gradient, value = differentiated(fn, anchors)
    assert not np.any(value)
    assert not np.any(gradient)


def test_large_scores_neither_overflow_nor_lose_their_slope():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)
    fn = fused(negatives, table)
    gradient, value = differentiated(fn, 1e4 * anchors)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert np.any(gradient)


def test_widths_that_differ_raise():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)
    with pytest.raises(InvalidInputError, match="the same width"):
        inspect.unwrap(memory.negative_softplus_sum)(anchors, table[:, :3], negatives)
