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
# Further settings and shapes of a loss are compiled by ``-m slow``.
every_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=str(case),
            marks=() if case is FIRST[case.loss] else pytest.mark.slow,
        )
        for case in CASES
    ],
)

# Compiling these programs well takes longer than running them.
QUICK = {"xla_backend_optimization_level": 0}


def loss_of(case):
    return functools.partial(case.loss, **case.settings)


def arguments(case, dtype):
    """The arguments in a dtype; labels stay integers."""
    return in_dtype(case.arguments, dtype)


def in_dtype(arrays, dtype):
    return [
        jnp.asarray(x) if x.dtype == np.int32 else jnp.asarray(x, dtype) for x in arrays
    ]


def floats(case):
    """The positions of the arguments that are not labels."""
    return tuple(i for i, x in enumerate(case.arguments) if x.dtype != np.int32)


def teachers(case):
    """The positions of the arguments that have no gradient by default."""
    return [i for i in floats(case) if i not in case.differentiated]


class Evaluation(NamedTuple):
    """Result of one compiled program: the values, and gradients by position."""

    value: np.ndarray
    gradients: dict[int, np.ndarray]


def weights_of(case):
    """Weights of the values, so that the gradients of all values are compared."""
    value = case.definition(*case.arguments, **case.settings)
    return np.random.default_rng(0).uniform(0.5, 1.5, np.shape(value))


def evaluate(case, **settings):
    """A function of the arguments that returns an ``Evaluation``."""
    weights = weights_of(case)

    def total(*x):
        value = case.loss(*x, **case.settings, **settings)
        # Degenerate arguments may be of other shapes.
        each = weights if weights.shape == value.shape else np.ones(value.shape)
        return jnp.sum(jnp.asarray(each, value.dtype) * value), value

    def both(*x):
        gradients, value = jax.grad(total, argnums=floats(case), has_aux=True)(*x)
        return Evaluation(value, dict(zip(floats(case), gradients, strict=True)))

    return both


def two(case):
    """The arguments in float64, and the same with the first axis reversed."""
    return [(x, x[::-1]) for x in case.arguments]


@functools.cache
def mapped(case):
    """The loss in float64, mapped over ``two``, with the teacher's gradients too."""
    program = jax.vmap(evaluate(case, stop_teacher_gradient=False))
    with jax.enable_x64(True):
        x = in_dtype([np.stack(pair) for pair in two(case)], jnp.float64)
        results = jax.jit(program, compiler_options=QUICK)(*x)
    return jax.tree.map(np.asarray, results)


@functools.cache
def by_default(case):
    """The program of the loss as it comes, neither mapped nor in a fixed dtype."""
    return jax.jit(evaluate(case), compiler_options=QUICK)


@functools.cache
def in_float32(case):
    return jax.tree.map(np.asarray, by_default(case)(*arguments(case, jnp.float32)))


@every_case
def test_value_matches_the_definition_mapped_over_two_batches(case):
    value = mapped(case).value
    assert value.dtype == np.float64
    for i in range(2):
        expected = case.definition(*(pair[i] for pair in two(case)), **case.settings)
        np.testing.assert_allclose(value[i], expected, rtol=1e-10, atol=1e-13)


@every_case
def test_gradient_matches_finite_differences_of_the_definition(case):
    weights = weights_of(case)
    gradients = [mapped(case).gradients[i][0] for i in case.differentiated]
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
    gradients = in_float32(case).gradients
    assert not any(np.any(gradients[i]) for i in teachers(case))


@every_case
def test_the_student_gets_the_same_gradient_whether_the_teacher_gets_one(case):
    for i in case.differentiated:
        expected = mapped(case).gradients[i][0]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            in_float32(case).gradients[i], expected, rtol=1e-3, atol=1e-4 * scale
        )


@every_case
def test_the_teacher_gets_a_gradient_on_request(case):
    of_teacher = [mapped(case).gradients[i] for i in teachers(case)]
    assert any(np.any(g) for g in of_teacher) == case.teacher_gradient
    assert all(np.isfinite(g).all() for g in of_teacher)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_neither_mapped_nor_with_the_teachers_gradient_it_is_the_same(case):
    for i in range(2):
        x = in_dtype([pair[i] for pair in two(case)], jnp.float64)
        results = by_default(case)(*x)
        expected = jax.tree.map(lambda leaf, i=i: leaf[i], mapped(case))
        np.testing.assert_allclose(
            results.value, expected.value, rtol=1e-11, atol=1e-13
        )
        for position in case.differentiated:
            gradient = expected.gradients[position]
            np.testing.assert_allclose(
                results.gradients[position],
                gradient,
                rtol=1e-9,
                atol=1e-11 * np.abs(gradient).max(),
            )
        assert not any(np.any(results.gradients[j]) for j in teachers(case))


# Called eagerly, every operation is compiled by itself. The examples of the docstrings
# are eager calls too, but show four digits.
@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", FIRST.values(), ids=str)
def test_eagerly_it_is_the_same(case):
    value = loss_of(case)(*arguments(case, jnp.float64))
    np.testing.assert_allclose(value, mapped(case).value[0], rtol=1e-11, atol=1e-13)


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
    expected = case.definition(*case.arguments, **case.settings)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        in_float32(case).value, expected, rtol=1e-4, atol=2e-5 * scale
    )


# Losses that take seconds to compile for a further shape. One class and one example
# are also shapes of the other losses.
LARGE = {
    losses.channel_distributions,
    losses.decoupled_kl,
    losses.jensen_shannon,
    losses.multi_level,
    losses.self_supervised_similarity,
    losses.singular_value,
    losses.skewed_kl,
    losses.transformed_teacher_matching,
    losses.weighted_transformed_teacher_matching,
}


def marks_of(case, name):
    shapes = [x.shape for x in case.degenerate[name]]
    compiled = shapes == [x.shape for x in case.arguments]
    quick = case is FIRST[case.loss] and (compiled or case.loss not in LARGE)
    return () if quick else pytest.mark.slow


@pytest.mark.parametrize(
    "case, name",
    [
        pytest.param(
            case,
            name,
            id=f"{case}-{name}".replace(" ", "-"),
            marks=marks_of(case, name),
        )
        for case in CASES
        for name in case.degenerate
    ],
)
def test_degenerate_inputs_have_finite_gradients(case, name):
    results = by_default(case)(*in_dtype(case.degenerate[name], jnp.float32))
    assert np.isfinite(results.value).all()
    assert all(np.isfinite(results.gradients[i]).all() for i in case.differentiated)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_refused(case):
    x = arguments(case, jnp.float32)
    x[0] = x[0].astype(jnp.int32)
    with pytest.raises(TypeError, match="must be floating point"):
        inspect.unwrap(case.loss)(*x, **case.settings)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_batches_that_differ_are_refused(case):
    x = arguments(case, jnp.float32)
    x[case.student] = x[case.student][1:]
    with pytest.raises(InvalidInputError, match="the same"):
        inspect.unwrap(case.loss)(*x, **case.settings)


@pytest.mark.parametrize("case", FIRST.values(), ids=str)
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
