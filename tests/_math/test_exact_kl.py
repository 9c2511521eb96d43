"""The accuracy that the loss promises, against 60-digit arithmetic."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from reference import soft_targets as reference

from jaxkd import losses

TEMPERATURES = [0.05, 0.5, 4.0, 1e3, 1e8, np.inf]
VALUE_BOUND = 1e-6
GRADIENT_BOUND = 1e-5


def normal(rng, classes):
    return 3.0 * rng.normal(size=(2, classes))


def wide(rng, classes):
    return 10.0 * rng.normal(size=(2, classes))


def close(rng, classes):
    teacher = 3.0 * rng.normal(size=classes)
    return np.stack([teacher + 1e-3 * rng.normal(size=classes), teacher])


def shifted(rng, classes):
    teacher = rng.normal(size=classes)
    return np.stack([teacher + 100.0 + rng.normal(size=classes), teacher - 300.0])


def one_hot_student(rng, classes):
    student = np.where(np.arange(classes) == classes - 1, 1e4, -1e4)
    return np.stack([student, rng.normal(size=classes)])


def one_cold_student(rng, classes):
    # One term of the sum is a thousand times the others together, which are all alike.
    return np.stack([np.where(np.arange(classes) == 0, -1e4, 0.0), np.zeros(classes)])


def one_cold_student_of_a_warm_teacher(rng, classes):
    # All other classes have the mean difference, which is a thousand times the loss.
    student, teacher = one_cold_student(rng, classes)
    return np.stack([student, teacher + 0.1 * (np.arange(classes) == 0)])


def rare_class(rng, classes):
    # At T = 0.05 a class of probability e^-60 for the teacher, e^-2 for the student.
    first = np.arange(classes) == 0
    return np.stack([np.where(first, -0.1, 0.0), np.where(first, -3.0, 0.0)])


def opposite_one_hots(rng, classes):
    student = np.where(np.arange(classes) == 0, 1e4, -1e4)
    return np.stack([student, np.roll(student, 1)])


CASES = [
    normal,
    wide,
    close,
    shifted,
    one_hot_student,
    one_cold_student,
    one_cold_student_of_a_warm_teacher,
    rare_class,
    opposite_one_hots,
]


def value_and_gradient(student, teacher, temperature):
    return jax.value_and_grad(
        lambda s: losses.soft_target_kl(s, teacher, temperature=temperature)
    )(student)


# Compiled once for all temperatures and cases of a shape.
compiled = jax.jit(value_and_gradient)


@jax.jit
@functools.partial(jax.grad, argnums=2)
def in_the_temperature(student, teacher, temperature):
    return losses.soft_target_kl(student, teacher, temperature=temperature)


@jax.jit
def of_a_batch(student, teacher, temperature):
    """The values, and the gradients of their sum."""
    values, pull_back = jax.vjp(
        lambda s: losses.soft_target_kl(s, teacher, temperature=temperature), student
    )
    return values, *pull_back(jnp.ones_like(values))


def relative_errors(fn, case, classes, temperature):
    rng = np.random.default_rng(classes)
    student, teacher = case(rng, classes).astype(np.float32)
    temperature = np.float32(temperature)
    value, gradient, _ = reference.exact_soft_target_kl(student, teacher, temperature)
    got_value, got_gradient = fn(student, teacher, temperature)
    assert got_value.dtype == got_gradient.dtype == jnp.float32
    value_error = abs(mpmath.mpf(float(got_value)) - value)
    gradient_error = max(
        abs(mpmath.mpf(float(got)) - wanted)
        for got, wanted in zip(got_gradient, gradient, strict=True)
    )
    # Nothing is promised of results made up of terms that float32 cannot hold.
    tiny = classes * float(np.finfo(np.float32).tiny)
    return (
        float(value_error / max(value, tiny / VALUE_BOUND)),
        float(gradient_error / max(*map(abs, gradient), tiny / GRADIENT_BOUND)),
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("classes", [2, pytest.param(10, marks=pytest.mark.slow), 100])
@pytest.mark.parametrize("case", CASES)
def test_float32_is_exact_to_the_last_digits(case, classes, temperature):
    errors = relative_errors(compiled, case, classes, temperature)
    np.testing.assert_array_less(errors, [VALUE_BOUND, GRADIENT_BOUND])


@pytest.mark.parametrize("temperature", [0.05, 4.0, 1e4, np.inf])
@pytest.mark.parametrize("case", [normal, one_cold_student])
def test_float32_is_exact_with_a_thousand_classes(case, temperature):
    errors = relative_errors(compiled, case, 1000, temperature)
    np.testing.assert_array_less(errors, [VALUE_BOUND, GRADIENT_BOUND])


# Every operation is compiled by itself. That compilation changes no more than a
# rounding error is a property that test_properties.py checks.
@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.05, 4.0, 1e4, np.inf])
@pytest.mark.parametrize("case", CASES)
def test_float32_is_exact_without_compilation_too(case, temperature):
    errors = relative_errors(value_and_gradient, case, 10, temperature)
    np.testing.assert_array_less(errors, [VALUE_BOUND, GRADIENT_BOUND])


@pytest.mark.parametrize("temperature", [1e3, 1e4, 1e6])
def test_the_plain_formula_is_not_exact_at_high_temperatures(temperature):
    def plain(student, teacher, temperature):
        def loss(s):
            log_p = jax.nn.log_softmax(teacher / temperature)
            log_q = jax.nn.log_softmax(s / temperature)
            return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q))

        return jax.value_and_grad(loss)(student)

    value_error, _ = relative_errors(plain, normal, 10, temperature)
    assert value_error > 100 * VALUE_BOUND


@pytest.mark.parametrize("temperature", [0.05, 0.5, 4.0, 100.0, 1e4, 1e8])
def test_derivative_in_the_temperature_is_accurate(temperature):
    student, teacher = normal(np.random.default_rng(1), 10).astype(np.float32)
    *_, expected = reference.exact_soft_target_kl(
        student, teacher, np.float32(temperature)
    )
    np.testing.assert_allclose(
        in_the_temperature(student, teacher, jnp.float32(temperature)),
        float(expected),
        rtol=3e-6,
        atol=0.0,
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", [0.05, 4.0, 1e4, np.inf])
@pytest.mark.parametrize("case", [normal, close, one_hot_student])
def test_float64_is_exact_to_the_last_digits(case, temperature):
    student, teacher = case(np.random.default_rng(0), 10)
    value, gradient, _ = reference.exact_soft_target_kl(student, teacher, temperature)
    got_value, got_gradient = compiled(student, teacher, temperature)
    np.testing.assert_allclose(got_value, float(value), rtol=2e-15)
    gradient = np.array([float(g) for g in gradient])
    np.testing.assert_allclose(
        got_gradient, gradient, rtol=0.0, atol=2e-15 * np.abs(gradient).max()
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_components_of_the_gradient_sum_to_zero(temperature):
    logits = 5.0 * np.random.default_rng(2).normal(size=(2, 500, 100))
    student, teacher = logits.astype(np.float32)
    _, gradient = of_a_batch(student, teacher, np.float32(temperature))
    gradient = np.asarray(gradient, np.float64)
    largest = np.abs(gradient).max(axis=-1)
    np.testing.assert_array_less(np.abs(gradient.sum(axis=-1)), 1e-6 * largest)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_never_negative_where_student_and_teacher_nearly_agree(temperature):
    rng = np.random.default_rng(3)
    teacher = rng.normal(0, 3, (500, 100)).astype(np.float32)
    noise = 10.0 ** rng.uniform(-8, 0, (500, 1)) * rng.normal(size=(500, 100))
    student = (teacher + noise).astype(np.float32)
    value, _ = of_a_batch(student, teacher, np.float32(temperature))
    assert (np.asarray(value) >= 0.0).all()
