"""Cases at which leaving out one of the loss's precision measures shows.

Without it the error is larger than what the loss promises, with it much smaller.
Each case was found by searching for the largest difference that the measure makes.
"""

import jax
import mpmath
import numpy as np
import pytest
from reference import soft_targets as reference

from jaxkd import losses

# Optimizations could undo the measures.
pytestmark = pytest.mark.usefixtures("optimized")

VALUE_BOUND = 1e-6
GRADIENT_BOUND = 1e-5


@jax.jit
def value_and_gradient(student, teacher, temperature):
    return jax.value_and_grad(losses.soft_target_kl)(
        student, teacher, temperature=temperature
    )


def relative_errors(student, teacher, temperature):
    arguments = [np.float32(x) for x in (student, teacher, temperature)]
    value, gradient, _ = reference.exact_soft_target_kl(*arguments)
    got_value, got_gradient = value_and_gradient(*arguments)
    errors = [
        abs(mpmath.mpf(float(got)) - wanted)
        for got, wanted in zip(got_gradient, gradient, strict=True)
    ]
    return (
        float(abs(mpmath.mpf(float(got_value)) - value) / value),
        float(max(errors) / max(map(abs, gradient))),
    )


@pytest.mark.parametrize(
    "student, teacher, temperature",
    [(-40.3, -95.7, 1.0), (-0.11, -3.0, 0.05), (-0.13, -2.9, 0.05)],
)
def test_rare_class_is_summed_from_the_students_exponential(
    student, teacher, temperature
):
    # In the first its probability is too small for the teacher's. In the others the
    # rounding of w, which is near 58, would be an error of the exponential.
    errors = relative_errors([0.0, student], [0.0, teacher], temperature)
    np.testing.assert_array_less(errors, [VALUE_BOUND, GRADIENT_BOUND])


@pytest.mark.parametrize(
    "others, top, temperature", [(1777.7, 0.05, 16.0), (1200.3, 0.1, 20.0)]
)
def test_mean_difference_far_from_the_top_class_keeps_its_rounding_errors(
    others, top, temperature
):
    # The student is 1778 below at the teacher's top class, and 1600 on average: their
    # difference is an exponent, and both are rounded.
    student, teacher = np.full(10, others), np.zeros(10)
    student[0], teacher[0] = 0.1, top
    errors = relative_errors(student, teacher, temperature)
    np.testing.assert_array_less(errors, [VALUE_BOUND, GRADIENT_BOUND])


@pytest.mark.parametrize("other", [4.0, 4.6, 5.0])
def test_a_thousand_small_terms_after_a_large_one_are_summed_accurately(other):
    # Added one by one to the first, each of the small weights is rounded alike.
    student, teacher = np.zeros(1000), np.zeros(1000)
    student[:2], teacher[0] = [9.2, other], 9.2
    errors = relative_errors(student, teacher, 1.0)
    np.testing.assert_array_less(errors, [VALUE_BOUND, GRADIENT_BOUND])
