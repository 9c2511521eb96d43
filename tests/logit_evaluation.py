"""Evaluates logit losses on drawn cases and says whether the results are right.

References are exact: logits are taken as they are, and computed with as fractions.
"""

import functools
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Gradients(NamedTuple):
    """Values, and gradients of their sum; the teacher's by default and if it flows."""

    value: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    flowing_teacher: np.ndarray


@functools.partial(jax.jit, static_argnums=0)
def _gradients(loss, student, teacher, settings):
    by_default = functools.partial(loss, **settings)
    flowing = functools.partial(loss, student, **settings, stop_teacher_gradient=False)
    value, pull_back = jax.vjp(by_default, student, teacher)
    _, pull_back_to_teacher = jax.vjp(flowing, teacher)
    ones = jnp.ones_like(value)
    return Gradients(value, *pull_back(ones), *pull_back_to_teacher(ones))


def _precision(case):
    return jax.enable_x64(case.compute_dtype == np.float64)


def evaluate(loss, case):
    """Values and gradients, compiled, as the loss's own dtypes."""
    with _precision(case):
        results = _gradients(loss, case.student, case.teacher, case.settings)
        return jax.tree.map(np.asarray, results)


def differentiate(loss, case):
    """The results of ``evaluate`` in float64."""
    return jax.tree.map(np.float64, evaluate(loss, case))


def value_of(loss, case):
    """The values in float64."""
    if not case.direct:
        return differentiate(loss, case).value
    with _precision(case):
        return np.float64(loss(case.student, case.teacher, **case.settings))


def tiny(case):
    """What terms too small for the dtype may add up to, and the slack of the case."""
    smallest = float(np.finfo(case.compute_dtype).tiny)
    return case.classes * smallest + case.tolerance.slack


def assert_close(got, wanted, bound):
    """Unlike an assert on NumPy arrays this names the entries that differ."""
    assert np.shape(got) == np.shape(wanted)
    assert np.isfinite(got).all(), got
    error = np.abs(np.subtract(got, wanted))
    assert (error <= bound).all(), f"{got} should be {wanted}, within {bound}"


def assert_same_values(case, got, wanted):
    """Two values computed by the loss, each with its error."""
    error = case.tolerance.value * np.abs(wanted)
    if case.temperature is None:
        # Half a square, or a mean of them, and differences cancel in what is squared.
        of_root = case.tolerance.value * largest_difference(case)
        error = of_root * (np.sqrt(2.0 * np.abs(wanted)) + of_root)
    assert_close(got, wanted, 2.0 * (error + tiny(case)))


def assert_not_below(case, got, least):
    """Likewise, of values that need not be the same."""
    bound = 2.0 * (case.tolerance.value * np.abs(least) + tiny(case))
    assert (got >= least - bound).all(), f"{got} should be at least {least}"


def assert_gradient(case, got, wanted, error=0.0):
    """``error`` is that of what is wanted."""
    largest = np.abs(wanted).max(axis=-1, keepdims=True)
    assert_close(got, wanted, case.tolerance.gradient * largest + tiny(case) + error)


def assert_zero_sum(case, gradient, *, units):
    """Up to a rounding error of so many units in the last place of each component."""
    rounding = units * float(jnp.finfo(case.dtype).eps)
    bound = rounding * np.abs(gradient).sum(axis=-1) + tiny(case)
    assert_close(gradient.sum(axis=-1), np.zeros(gradient.shape[:-1]), bound)


def exact_differences(case):
    """Student minus teacher of each example, in fractions."""
    student, teacher = (x.reshape(-1, case.classes) for x in case.exact())
    for z, v in zip(student, teacher, strict=True):
        yield [Fraction(a) - Fraction(b) for a, b in zip(z, v, strict=True)]


def per_example(case, function):
    """A function of the exact differences of each example."""
    results = np.array([function(d) for d in exact_differences(case)], np.float64)
    return np.reshape(results, case.student.shape[:-1] + results.shape[1:])


def mean(d):
    return sum(d) / len(d)


def half_variance(d):
    return float(sum((x - mean(d)) ** 2 for x in d) / (2 * len(d)))


def centered_share(d):
    return [float((x - mean(d)) / len(d)) for x in d]


def oscillation(x):
    return x.max(axis=-1) - x.min(axis=-1)


def reach(case):
    """R/T: the larger oscillation of the two logits, over the temperature."""
    student, teacher = case.exact()
    widest = np.maximum(oscillation(student), oscillation(teacher))
    return widest / np.float64(case.temperature)


def largest_difference(case):
    """Of student and teacher, of each example."""
    return np.abs(np.subtract(*case.exact())).max(axis=-1)
