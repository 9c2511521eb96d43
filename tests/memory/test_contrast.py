import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from memory_support import (
    BATCH,
    DIM,
    ROWS,
    choose,
    problem,
    weights,
)
from reference import holistic as reference

from jaxkd import memory
from jaxkd._errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def by_definition(anchors, table, negatives, temperature):
    """Value [anchors, batch] and gradient [anchors, batch, dim]."""
    pairs = [
        [
            reference.log_sum_exp(a, np.float64(table), temperature, w)
            for a, w in zip(anchor, weights(negatives), strict=True)
        ]
        for anchor in np.float64(anchors)
    ]
    return tuple(np.array([[p[i] for p in row] for row in pairs]) for i in range(2))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "chunk_size"),
    [
        ("all", None),
        ("sampled", 5),
        ("shared", 5),
        ("listed", 5),
        *(
            pytest.param(name, size, marks=pytest.mark.slow)
            for name, size in [("all", 1), ("all", 23), ("all", 100), ("sampled", None)]
        ),
    ],
)
def test_value_and_gradient_match_the_definition(name, chunk_size):
    anchors, table, labels, row_labels = problem()
    negatives = choose(name, labels, row_labels)

    @functools.partial(jax.value_and_grad, has_aux=True)
    def total(a):
        value = memory.negative_log_sum_exp(
            a, table, negatives, temperature=0.3, chunk_size=chunk_size
        )
        return value.sum(), value

    (_, value), gradient = jax.jit(total)(jnp.asarray(anchors))
    expected = by_definition(anchors, table, negatives, 0.3)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_derivatives_hold_in_both_modes_and_to_second_order():
    anchors, table, labels, row_labels = problem()
    negatives = choose("sampled", labels, row_labels)

    @jax.jit  # Each derivative is compiled once, whatever the number of its calls.
    def fn(a):
        return memory.negative_log_sum_exp(
            a, table, negatives, temperature=0.5, chunk_size=7
        )

    check_grads(fn, (anchors,), order=2, modes=["fwd", "rev"])


@pytest.mark.usefixtures("x64")
def test_temperature_and_weights_are_differentiated_too():
    anchors, table, labels, row_labels = problem()
    negatives = choose("all", labels, row_labels)

    @jax.jit
    def fn(temperature, log_weight):
        return memory.negative_log_sum_exp(
            jnp.asarray(anchors),
            table,
            negatives._replace(log_weight=log_weight),
            temperature=temperature,
        )

    check_grads(fn, (jnp.asarray(0.5), jnp.zeros(BATCH)), order=1)


@pytest.fixture(scope="module")
def differentiated():
    """Value and gradient over a table, and what they are of two tables in one vmap."""
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("sampled", labels, row_labels)

    @jax.value_and_grad
    def total(a, table):
        return memory.negative_log_sum_exp(
            a, table, negatives, temperature=0.3, chunk_size=7
        ).sum()

    function = functools.partial(total, anchors)
    tables = jnp.stack([table, table[::-1]])
    return function, tables, jax.jit(jax.vmap(function))(tables)


def assert_close_to_row(batched, i, expected):
    for one, other in zip(batched, expected, strict=True):
        np.testing.assert_allclose(one[i], other, rtol=1e-5, atol=1e-6)


def test_jit_and_vmap_agree(differentiated):
    function, tables, batched = differentiated
    compiled = jax.jit(function)
    for i, table in enumerate(tables):
        assert_close_to_row(batched, i, compiled(table))


@pytest.mark.slow
def test_eager_and_jit_agree(differentiated):
    function, tables, batched = differentiated
    assert_close_to_row(batched, 0, function(tables[0]))


def test_anchors_may_have_any_leading_axes():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)
    fn = functools.partial(
        memory.negative_log_sum_exp, table=table, negatives=negatives
    )
    both = fn(anchors)
    for anchor, expected in zip(anchors, both, strict=True):
        np.testing.assert_allclose(fn(anchor), expected, rtol=1e-6)
    np.testing.assert_allclose(fn(anchors[None]), both[None], rtol=1e-6)


@jax.jit  # Compiled once for all temperatures.
@functools.partial(jax.value_and_grad, has_aux=True)
def at_temperature(anchors, negatives, temperature):
    _, table, *_ = problem(dtype=np.float32)
    value = memory.negative_log_sum_exp(
        anchors, table, negatives, temperature=temperature, chunk_size=4
    )
    return value.sum(), value


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1e4])
def test_extreme_temperatures_neither_overflow_nor_vanish(temperature):
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)

    (_, value), gradient = at_temperature(jnp.asarray(anchors), negatives, temperature)
    expected, slope = by_definition(anchors, table, negatives, temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-2, atol=1e-5 / temperature)


def test_examples_without_negatives_have_minus_infinity_and_zero_gradient():
    anchors, table, _, _ = problem(dtype=np.float32)
    zeros = np.zeros(BATCH, np.int32), np.zeros(ROWS, np.int32)
    negatives = choose("all", *zeros)

    def total(a):
        value = memory.negative_log_sum_exp(a, table, negatives, chunk_size=5)
        # As InfoNCE uses it: nothing repels, so nothing is lost.
        return jax.nn.softplus(value).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(anchors)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)


def test_a_masked_row_with_a_much_larger_score_has_no_effect():
    # The first row belongs to the example's own class and scores 10⁴ higher.
    table = jnp.array([[1e4, 0.0], [0.0, 1.0], [0.0, 2.0]])
    labels = jnp.array([0, 1, 1])
    negatives = memory.all_negatives(
        jax.random.key(0), labels[:1], labels, num_negatives=2, num_classes=2
    )
    value = memory.negative_log_sum_exp(jnp.array([[1.0, 1.0]]), table, negatives)
    np.testing.assert_allclose(value, np.logaddexp(1.0, 2.0), rtol=1e-6)


def test_the_table_is_a_constant_in_every_order():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)

    def total(anchors, table):
        return memory.negative_log_sum_exp(anchors, table, negatives).sum()

    def slope(anchors, table):
        return jax.grad(total)(anchors, table).sum()

    for fn in (total, slope):
        gradient = jax.jit(jax.grad(fn, argnums=1))(anchors, table)
        np.testing.assert_array_equal(gradient, 0.0)


def test_a_bfloat16_table_is_computed_in_float32():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)
    half = jnp.asarray(table, jnp.bfloat16)
    value = memory.negative_log_sum_exp(anchors, half, negatives)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(
        value,
        memory.negative_log_sum_exp(anchors, half.astype(jnp.float32), negatives),
    )


def test_errors_name_the_invalid_argument():
    anchors, table, labels, row_labels = problem(dtype=np.float32)
    negatives = choose("all", labels, row_labels)
    fn = inspect.unwrap(memory.negative_log_sum_exp)
    with pytest.raises(InvalidInputError, match="same width"):
        fn(anchors, table[:, :3], negatives)
    with pytest.raises(InvalidInputError, match="same batch"):
        fn(anchors[:, :3], table, negatives)
    with pytest.raises(TypeError, match="table must be floating point"):
        fn(anchors, np.ones((ROWS, DIM), int), negatives)
    with pytest.raises(InvalidInputError, match="temperature must be positive"):
        fn(anchors, table, negatives, temperature=0.0)
    with pytest.raises(InvalidInputError, match="chunk_size must be at least 1"):
        fn(anchors, table, negatives, chunk_size=0)
