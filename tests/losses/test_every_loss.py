"""The properties that every loss of the zoo must have."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import CASES

from jaxkd import losses
from jaxkd._errors import InvalidInputError

FIRST = {case.loss: case for case in reversed(CASES)}
every_case = pytest.mark.parametrize("case", CASES, ids=str)


# For what runs once on a handful of numbers, compiling well takes longer than running.
QUICK = {"xla_backend_optimization_level": 0}


def loss_of(case):
    return functools.partial(case.loss, **case.settings)


@functools.cache
def compiled(case):
    """The compiled loss: called eagerly, most losses compile dozens of operations."""
    return jax.jit(loss_of(case))


@functools.cache
def compiled_gradient(case):
    """The compiled gradient of the sum, and the values."""

    def total(*x):
        value = loss_of(case)(*x)
        return value.sum(), value

    gradient = jax.grad(total, argnums=case.differentiated, has_aux=True)
    return jax.jit(gradient, compiler_options=QUICK)


def arguments(case, dtype):
    """The arguments in a dtype; labels stay integers."""
    return [
        jnp.asarray(x) if x.dtype == np.int32 else jnp.asarray(x, dtype)
        for x in case.arguments
    ]


@pytest.mark.usefixtures("x64")
@every_case
def test_value_matches_the_definition(case):
    expected = case.definition(*case.arguments, **case.settings)
    value = compiled(case)(*arguments(case, jnp.float64))
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("x64")
@every_case
def test_gradient_matches_finite_differences_of_the_definition(case):
    x = arguments(case, jnp.float64)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, jax.eval_shape(loss_of(case), *x).shape)
    total = lambda *x: jnp.sum(weights * loss_of(case)(*x))
    gradient = jax.grad(total, argnums=case.differentiated)
    gradients = jax.jit(gradient, compiler_options=QUICK)(*x)
    for _ in range(3):
        way = [rng.normal(size=x[i].shape) for i in case.differentiated]

        def along(step, way=way):
            moved = list(case.arguments)
            for i, direction in zip(case.differentiated, way, strict=True):
                moved[i] = moved[i] + step * direction
            return np.sum(weights * case.definition(*moved, **case.settings))

        # Richardson: the error is of order h^4.
        h = 1e-4
        slope = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
        product = sum(np.sum(g * w) for g, w in zip(gradients, way, strict=True))
        size = sum(np.sum(np.abs(g * w)) for g, w in zip(gradients, way, strict=True))
        np.testing.assert_allclose(product, slope, atol=1e-6 * size, rtol=0)


@every_case
def test_the_teacher_gets_a_gradient_only_on_request(case):
    x = arguments(case, jnp.float32)
    constant = [
        i
        for i in range(len(x))
        if i not in case.differentiated and x[i].dtype == jnp.float32
    ]
    name = "stop_teacher_gradient"
    for stop in (True, False):
        total = lambda *x, stop=stop: loss_of(case)(*x, **{name: stop}).sum()
        gradient = jax.grad(total, argnums=constant)
        gradients = jax.jit(gradient, compiler_options=QUICK)(*x)
        expected = case.teacher_gradient and not stop
        assert any(np.any(g) for g in gradients) == expected
        assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.usefixtures("x64")
@every_case
def test_compiled_and_mapped_it_is_the_same(case):
    x = arguments(case, jnp.float64)
    value = compiled(case)(*x)
    if case is FIRST[case.loss]:  # eagerly, every operation is compiled by itself
        np.testing.assert_allclose(loss_of(case)(*x), value, rtol=1e-11, atol=1e-13)
    two = [jnp.stack([y, y[::-1]]) for y in x]
    mapped = jax.jit(jax.vmap(loss_of(case)), compiler_options=QUICK)(*two)
    np.testing.assert_allclose(mapped[0], value, rtol=1e-11, atol=1e-13)
    backwards = compiled(case)(*(y[::-1] for y in x))
    np.testing.assert_allclose(mapped[1], backwards, rtol=1e-11, atol=1e-13)


@every_case
def test_bfloat16_is_computed_in_float32(case):
    low = arguments(case, jnp.bfloat16)
    value = compiled(case)(*low)
    assert value.dtype == jnp.float32
    wide = [x if x.dtype == jnp.int32 else x.astype(jnp.float32) for x in low]
    np.testing.assert_allclose(value, compiled(case)(*wide), rtol=1e-5)


@every_case
def test_float32_keeps_the_digits(case):
    value = compiled(case)(*arguments(case, jnp.float32))
    expected = case.definition(*case.arguments, **case.settings)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=2e-5 * scale)


DEGENERATE = [(case, name) for case in CASES for name in case.degenerate]


@pytest.mark.parametrize(
    "case, name", DEGENERATE, ids=[f"{c}-{n}".replace(" ", "-") for c, n in DEGENERATE]
)
def test_degenerate_inputs_have_finite_gradients(case, name):
    x = [
        jnp.asarray(y) if y.dtype == np.int32 else jnp.asarray(y, jnp.float32)
        for y in case.degenerate[name]
    ]

    gradients, value = compiled_gradient(case)(*x)
    assert np.isfinite(value).all()
    assert all(np.isfinite(g).all() for g in gradients)


@every_case
def test_integers_are_refused(case):
    x = arguments(case, jnp.float32)
    x[0] = x[0].astype(jnp.int32)
    with pytest.raises(TypeError, match="must be floating point"):
        inspect.unwrap(case.loss)(*x, **case.settings)


@every_case
def test_batches_that_differ_are_refused(case):
    x = arguments(case, jnp.float32)
    x[case.student] = x[case.student][1:]
    with pytest.raises(InvalidInputError, match="the same"):
        inspect.unwrap(case.loss)(*x, **case.settings)


@every_case
def test_it_declares_what_it_does_not_see(case):
    assert case.loss in {declaration.loss for declaration in losses.INVARIANCES}


def test_every_declared_loss_is_tested_here_or_in_a_file_of_its_own():
    elsewhere = {
        losses.soft_target_kl,
        losses.logit_matching,
        losses.mean_gap,
        losses.info_nce,
        losses.noise_contrastive,
    }
    declared = {declaration.loss for declaration in losses.INVARIANCES}
    assert declared - {case.loss for case in CASES} == elsewhere
