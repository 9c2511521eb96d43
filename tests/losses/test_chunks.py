"""A loss in chunks is the same loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError

LABELS = np.arange(10, dtype=np.int32).reshape(2, 5) % 4
MASK = np.arange(10).reshape(2, 5, 1) != 3
BY_CLASS = np.array([True, True, False, True])


@pytest.fixture
def logits():
    shape = (2, 2, 5, 4)
    return tuple(np.random.default_rng(0).normal(0, 2, shape).astype(np.float32))


@pytest.mark.parametrize(
    "chunk_size", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 64))]
)
@pytest.mark.parametrize(
    "loss, others, settings",
    [
        (losses.skewed_kl, (), {"skew": 0.4}),
        pytest.param(
            *(losses.decoupled_kl, (LABELS,), {"temperature": 2.0, "where": MASK}),
            marks=pytest.mark.slow,
        ),
        (losses.reverse_kl, (), {"where": BY_CLASS}),
    ],
    ids=["settings", "labels and a mask of rows", "a mask of classes"],
)
def test_values_and_gradients_are_the_same(logits, chunk_size, loss, others, settings):
    student, teacher = logits
    weights = np.arange(1.0, 11.0, dtype=np.float32).reshape(2, 5)

    def total(loss, s):
        values = loss(s, teacher, *others, **settings)
        return jnp.sum(weights * values), values

    evaluate = lambda loss: jax.jit(
        jax.grad(functools.partial(total, loss), has_aux=True)
    )(student)
    gradient, values = evaluate(losses.in_chunks(loss, chunk_size))
    expected_gradient, expected = evaluate(loss)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_compiled_memory_is_that_of_a_chunk():
    logits = jax.ShapeDtypeStruct((256, 1000), jnp.bfloat16)

    def memory(loss):
        gradient = jax.jit(jax.value_and_grad(lambda s, t: loss(s, t).sum()))
        analysis = gradient.lower(logits, logits).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    whole = memory(losses.reverse_kl)
    assert memory(losses.in_chunks(losses.reverse_kl, 8)) < whole / 2


def test_leading_axes_that_differ_are_refused(logits):
    loss = losses.in_chunks(losses.decoupled_kl, 2)
    with pytest.raises(InvalidInputError, match="argument 3 must have the same"):
        loss(*logits, LABELS[:1])


def test_a_chunk_without_rows_is_refused():
    with pytest.raises(InvalidInputError, match="chunk_size must be at least 1"):
        losses.in_chunks(losses.reverse_kl, 0)
