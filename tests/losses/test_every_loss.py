"""The properties that every loss of the zoo must have."""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from zoo import CASES

from jaxkd import losses
from jaxkd._errors import InvalidInputError

FIRST = {case.loss: case for case in reversed(CASES)}
every_case = pytest.mark.parametrize("case", CASES, ids=str)


# Compiling these programs well takes longer than running them.
QUICK = {"xla_backend_optimization_level": 0}


def loss_of(case):
    return functools.partial(case.loss, **case.settings)


def arguments(case, dtype):
    """The arguments in a dtype; labels stay integers."""
    return [
        jnp.asarray(x) if x.dtype == np.int32 else jnp.asarray(x, dtype)
        for x in case.arguments
    ]


def floats(case):
    """The positions of the arguments that are not labels."""
    return tuple(i for i, x in enumerate(case.arguments) if x.dtype != np.int32)


class Evaluation(NamedTuple):
    """What one compiled program computes of a case in float64."""

    value: np.ndarray
    gradients: dict[int, np.ndarray]
    requested: dict[int, np.ndarray]


def weights_of(case):
    """Weights of the values, so that the gradients of all values are compared."""
    value = case.definition(*case.arguments, **case.settings)
    return np.random.default_rng(0).uniform(0.5, 1.5, np.shape(value))


def all_at_once(case):
    """Value, gradients, and the teacher's gradients on request, of one program."""
    loss, weights = loss_of(case), weights_of(case)

    def total(*x, **settings):
        value = loss(*x, **settings)
        return jnp.sum(weights * value), value

    def evaluate(*x):
        gradient = jax.grad(total, argnums=floats(case), has_aux=True)
        gradients, value = gradient(*x)
        requested = ()
        if case is FIRST[case.loss]:
            requested, _ = gradient(*x, stop_teacher_gradient=False)
        return (
            value,
            dict(zip(floats(case), gradients, strict=True)),
            dict(zip(floats(case), requested, strict=False)),
        )

    return jax.jit(evaluate, compiler_options=QUICK)


@functools.cache
def program(case):
    return all_at_once(case)


@functools.cache
def evaluated(case):
    with jax.enable_x64(True):
        results = program(case)(*arguments(case, jnp.float64))
    return Evaluation(*jax.tree.map(np.asarray, results))


@functools.cache
def compiled_gradient(case):
    """The compiled gradient of the sum, and the values."""

    def total(*x):
        value = loss_of(case)(*x)
        return value.sum(), value

    gradient = jax.grad(total, argnums=case.differentiated, has_aux=True)
    return jax.jit(gradient, compiler_options=QUICK)


@every_case
def test_value_matches_the_definition(case):
    expected = case.definition(*case.arguments, **case.settings)
    value = evaluated(case).value
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-13)


@every_case
def test_gradient_matches_finite_differences_of_the_definition(case):
    weights = weights_of(case)
    gradients = [evaluated(case).gradients[i] for i in case.differentiated]
    rng = np.random.default_rng(0)
    for _ in range(3):
        way = [rng.normal(size=case.arguments[i].shape) for i in case.differentiated]

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
def test_the_teacher_gets_no_gradient_by_default(case):
    of_teacher = [i for i in floats(case) if i not in case.differentiated]
    assert not any(np.any(evaluated(case).gradients[i]) for i in of_teacher)


@pytest.mark.parametrize("case", FIRST.values(), ids=str)
def test_the_teacher_gets_a_gradient_on_request(case):
    requested = evaluated(case).requested
    of_teacher = [requested[i] for i in floats(case) if i not in case.differentiated]
    assert any(np.any(g) for g in of_teacher) == case.teacher_gradient
    assert all(np.isfinite(g).all() for g in of_teacher)


@pytest.mark.usefixtures("x64")
@every_case
def test_mapped_it_is_the_same(case):
    x = arguments(case, jnp.float64)
    two = [jnp.stack([y, y[::-1]]) for y in x]
    mapped = jax.jit(jax.vmap(loss_of(case)), compiler_options=QUICK)(*two)
    np.testing.assert_allclose(mapped[0], evaluated(case).value, rtol=1e-11, atol=1e-13)
    backwards, *_ = program(case)(*(y[::-1] for y in x))
    np.testing.assert_allclose(mapped[1], backwards, rtol=1e-11, atol=1e-13)


# Called eagerly, every operation is compiled by itself. The examples of the docstrings
# are eager calls too, but show four digits.
@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", FIRST.values(), ids=str)
def test_eagerly_it_is_the_same(case):
    value = loss_of(case)(*arguments(case, jnp.float64))
    np.testing.assert_allclose(value, evaluated(case).value, rtol=1e-11, atol=1e-13)


def computed_in(jaxpr, dtype):
    """The operations, at any depth, that take an array of this dtype."""
    for equation in jaxpr.eqns:
        inner = list(jaxprs_in_params(equation.params))
        if inner:
            for each in inner:
                yield from computed_in(getattr(each, "jaxpr", each), dtype)
        elif any(getattr(x.aval, "dtype", None) == dtype for x in equation.invars):
            yield equation.primitive.name


@every_case
def test_bfloat16_is_computed_in_float32(case):
    low = arguments(case, jnp.bfloat16)
    program = jax.make_jaxpr(loss_of(case))(*low)
    assert set(computed_in(program.jaxpr, jnp.bfloat16)) == {"convert_element_type"}
    assert [x.dtype for x in program.out_avals] == [jnp.float32]


@every_case
def test_float32_keeps_the_digits(case):
    x = arguments(case, jnp.float32)
    if case.degenerate:  # the same program, where the shapes are the same
        _, value = compiled_gradient(case)(*x)
    else:
        value = jax.jit(loss_of(case), compiler_options=QUICK)(*x)
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
