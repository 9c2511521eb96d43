"""What is true of the logit losses at all logits, as functions that assert it.

A property takes the loss under test and what its strategy draws. ``check`` searches
for a counterexample in a domain.
"""

import hypothesis
import logit_cases
import numpy as np
from logit_cases import EVERYWHERE
from logit_evaluation import (
    assert_close,
    assert_gradient,
    assert_not_below,
    assert_same_values,
    assert_zero_sum,
    centered_share,
    differentiate,
    evaluate,
    half_variance,
    largest_difference,
    mean,
    oscillation,
    per_example,
    reach,
    tiny,
    value_of,
)
from reference import soft_targets as reference

from jaxkd import losses


def over(strategy):
    """Attaches the strategy that draws a property's arguments from a domain."""

    def attach(holds):
        holds.strategy = strategy
        return holds

    return attach


def check(holds, loss, *, domain=EVERYWHERE, examples=80, **settings):
    """Raises an AssertionError on a counterexample; searches alike each time."""

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        # How long drawing takes depends on the machine; the search does not.
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        **settings,
    )
    @hypothesis.given(holds.strategy(domain))
    def search(arguments):
        holds(loss, *arguments)

    search()


# Of every loss.


@over(logit_cases.pairs)
def dtype_is_at_least_float32(loss, case):
    """Low precision is widened, float64 kept; gradients have the logits' dtype."""
    results = evaluate(loss, case)
    assert results.value.dtype == case.compute_dtype
    assert {g.dtype for g in results[1:]} == {case.dtype}
    widened = case._replace(
        student=case.student.astype(case.compute_dtype),
        teacher=case.teacher.astype(case.compute_dtype),
    )
    np.testing.assert_array_equal(results.value, evaluate(loss, widened).value)


@over(logit_cases.pairs)
def value_is_never_negative(loss, case):
    """Not by a rounding error, and not NaN."""
    value = value_of(loss, case)
    assert (value >= -case.tolerance.slack).all(), value


@over(logit_cases.batches)
def per_example_of_a_batch(loss, case):
    """One value for each example, that of the example alone."""
    values = value_of(loss, case)
    assert values.shape == case.student.shape[:-1]
    for index in np.ndindex(values.shape):
        row = case.moved(case.student[index], case.teacher[index])
        assert_same_values(row, values[index], value_of(loss, row))


@over(logit_cases.permutations)
def class_permutation_invariance(loss, case, order):
    """The order of the classes does not matter; gradients follow it."""
    permuted = case.moved(case.student[..., order], case.teacher[..., order])
    results, others = differentiate(loss, case), differentiate(loss, permuted)
    assert_same_values(case, others.value, results.value)
    wanted = results.student[..., order]
    error = case.tolerance.gradient * np.abs(wanted).max()
    if case.temperature is None:  # differences may cancel in their mean
        error += case.tolerance.value * largest_difference(case).max()
    assert_gradient(case, others.student, wanted, error)


@over(logit_cases.scalings)
def joint_homogeneity(loss, case, factor):
    """Of degree 2 in logits and temperature: a change of unit."""
    scaled = case.moved(factor * case.exact()[0], factor * case.exact()[1])
    if case.temperature is not None:
        scaled = scaled.at(factor * case.temperature)
    assert_same_values(case, value_of(loss, scaled) / factor**2, value_of(loss, case))


@over(logit_cases.shifts)
def common_shift_invariance(loss, case, shift, _):
    """A constant added to both logits changes nothing."""
    moved = case.moved(*(x + shift for x in case.exact()))
    assert_same_values(case, value_of(loss, moved), value_of(loss, case))


@over(logit_cases.pairs)
def teacher_gets_no_gradient_by_default(loss, case):
    """The teacher is a constant unless told otherwise."""
    assert not differentiate(loss, case).teacher.any()


# Of the softened divergence.


def rounding_of_reference(case):
    """Error of T (q - p) and -p (d - p.d) in float64, where they cancel."""
    student, teacher = case.exact()
    largest = max(np.abs(student).max(), np.abs(teacher).max())
    temperature = np.float64(case.temperature)
    scale = largest if np.isinf(temperature) else temperature + largest
    return 8.0 * float(np.finfo(np.float64).eps) * scale * (1.0 + largest / temperature)


def with_masked_classes(logits, size, kept):
    """Logits at the ``kept`` ones of ``size`` classes, -inf at the others."""
    result = np.full((*logits.shape[:-1], size), -np.inf, logits.dtype)
    result[..., kept] = logits
    return result


@over(logit_cases.pairs)
def zero_sum_gradient(loss, case):
    """T1: what does not see a shift of the logits has a gradient that sums to zero."""
    assert_zero_sum(case, differentiate(loss, case).student, units=2)


@over(logit_cases.shifts)
def shift_invariance(loss, case, student_shift, teacher_shift):
    """Constants added to the student's and to the teacher's logits change nothing."""
    student, teacher = case.exact()
    moved = case.moved(student + student_shift, teacher + teacher_shift)
    assert_same_values(case, value_of(loss, moved), value_of(loss, case))


@over(logit_cases.shifts)
def zero_at_shifted_equals_alone(loss, case, shift, _):
    """No loss and no gradient if the logits differ by a constant; else a loss."""
    _, teacher = case.exact()
    results = differentiate(loss, case.moved(teacher + shift, teacher))
    for result in results:
        assert_close(result, np.zeros_like(result), case.tolerance.slack)
    # Further apart, the smaller of the two probabilities may be zero.
    differs = (per_example(case, half_variance) > 0.0) & (reach(case) < 40.0)
    assert (value_of(loss, case)[differs] > 0.0).all()


@over(logit_cases.pairs)
def two_sided_bound(loss, case):
    """T3: exp(-R/T) var(d)/2 <= L <= exp(R/T) var(d)/2."""
    value = value_of(loss, case)
    tolerance = case.tolerance.value
    with np.errstate(divide="ignore"):
        center = np.log(per_example(case, half_variance))
        above = np.log(np.maximum(value + tiny(case), 0.0))
        below = np.log(np.maximum(value - tiny(case), 0.0))
    assert (above >= center - reach(case) - tolerance).all()
    assert (below <= center + reach(case) + tolerance).all()


@over(logit_cases.grid_pairs)
def grows_faster_than_linearly(loss, case):
    """Convex in the student, zero at the teacher: L(v + 2d; v) >= 2 L(v + d; v)."""
    student, teacher = case.exact()
    further = value_of(loss, case.moved(2.0 * student - teacher, teacher))
    assert_not_below(case, further, 2.0 * value_of(loss, case))


@over(logit_cases.pairs)
def gradient_is_temperature_times_probability_gap(loss, case):
    """dL/dz = T (q - p), and (d - mean d)/C at infinite temperature."""
    wanted, _ = reference.soft_target_kl_gradients(*case.exact(), case.temperature)
    got = differentiate(loss, case).student
    assert_gradient(case, got, wanted, rounding_of_reference(case))


@over(logit_cases.pairs)
def teacher_gradient_is_the_weighted_difference(loss, case):
    """dL/dv = -p (d - p.d) if it may flow, which sums to zero."""
    _, wanted = reference.soft_target_kl_gradients(*case.exact(), case.temperature)
    got = differentiate(loss, case).flowing_teacher
    assert_gradient(case, got, wanted, rounding_of_reference(case))
    assert_zero_sum(case, got, units=8)


@over(logit_cases.pairs_at_infinity)
def infinite_temperature_is_half_the_variance(loss, case):
    """T4: var(d)/2, whose gradient is (d - mean d)/C."""
    results = differentiate(loss, case)
    wanted = per_example(case, half_variance)
    bound = case.tolerance.value * wanted + tiny(case)
    assert_close(results.value, wanted, bound)
    assert_gradient(case, results.student, per_example(case, centered_share))


@over(logit_cases.pairs)
def gradient_rate(loss, case):
    """T4: dL/dz is within 2 osc(d) (exp(R/T) - 1)/C of its limit (d - mean d)/C."""
    limit = per_example(case, centered_share)
    # osc(d)/C is the oscillation of the limit. Nothing is that large: no overflow.
    rate = 2.0 * oscillation(limit) * np.expm1(np.minimum(reach(case), 100.0))
    got = differentiate(loss, case).student
    assert_gradient(case, got, limit, rate[..., np.newaxis])


@over(logit_cases.masks)
def masked_classes_take_no_part(loss, case, size, kept):
    """What both networks mask with -inf changes nothing and gets no gradient."""
    fill = lambda x: with_masked_classes(x, size, kept)
    masked = case._replace(student=fill(case.student), teacher=fill(case.teacher))
    got, wanted = differentiate(loss, masked), differentiate(loss, case)
    assert_same_values(case, got.value, wanted.value)
    for gradient, without in zip(got[1:], wanted[1:], strict=True):
        assert not np.delete(gradient, kept, axis=-1).any()
        error = case.tolerance.gradient * np.abs(without).max() + tiny(case)
        assert_gradient(case, gradient[..., kept], without, error)


@over(logit_cases.masks)
def class_that_the_student_masks_costs_infinitely_much(loss, case, size, kept):
    """If the teacher has it; the student's gradient is finite nevertheless."""
    teacher = np.zeros((*case.student.shape[:-1], size))
    teacher[..., kept] = case.teacher
    student = with_masked_classes(case.student, size, kept)
    results = differentiate(loss, case.moved(student, teacher))
    assert (results.value == np.inf).all(), results.value
    assert np.isfinite(results.student).all(), results.student


def masked_by_the_teacher(case, size, kept):
    """The case with classes that the student alone has, at logits of zero."""
    student = np.zeros((*case.student.shape[:-1], size))
    student[..., kept] = case.student
    return case.moved(student, with_masked_classes(case.teacher, size, kept))


@over(logit_cases.masks)
def class_that_the_teacher_masks_counts_in_the_student(loss, case, size, kept):
    """It has p = 0 and q > 0, so it makes the loss larger."""
    hypothesis.assume(np.isfinite(case.temperature))
    masked = masked_by_the_teacher(case, size, kept)
    results = differentiate(loss, masked)
    wanted, _ = reference.soft_target_kl_gradients(*masked.exact(), case.temperature)
    assert_gradient(case, results.student, wanted, rounding_of_reference(case))
    assert_not_below(case, results.value, value_of(loss, case))


@over(logit_cases.masks)
def class_that_the_teacher_masks_is_infinitely_far_in_the_limit(loss, case, size, kept):
    """At infinite temperature p and q are uniform over different classes."""
    masked = masked_by_the_teacher(case, size, kept).at(np.inf)
    value = differentiate(loss, masked).value
    assert (value == np.inf).all(), value


@over(logit_cases.pairs)
def jit_agrees_with_eager(loss, case):
    """Compilation changes no more than a rounding error."""
    direct, compiled = (case._replace(direct=direct) for direct in (True, False))
    assert_same_values(case, value_of(loss, direct), value_of(loss, compiled))


# Of logit matching and the gap of the means.


@over(logit_cases.pairs)
def gradient_sums_to_the_mean_difference(loss, case):
    """Where T1 does not hold: the sum is mean(d)."""
    wanted = per_example(case, lambda d: float(mean(d)))
    got = differentiate(loss, case).student.sum(axis=-1)
    bound = case.tolerance.gradient * largest_difference(case) + tiny(case)
    assert_close(got, wanted, bound)


@over(logit_cases.pairs)
def gradient_is_the_difference_over_the_classes(loss, case):
    """dLM/dz = d/C, and the negative of it for the teacher."""
    wanted = per_example(case, lambda d: [float(x / len(d)) for x in d])
    results = differentiate(loss, case)
    assert_gradient(case, results.student, wanted)
    assert_gradient(case, results.flowing_teacher, -wanted)


@over(logit_cases.pairs)
def gradient_is_the_mean_difference_over_the_classes(loss, case):
    """dGap/dz = mean(d)/C for every class."""
    wanted = per_example(case, lambda d: [float(mean(d) / len(d))] * len(d))
    results = differentiate(loss, case)
    error = case.tolerance.gradient * largest_difference(case).max()
    assert_gradient(case, results.student, wanted, error)
    assert_gradient(case, results.flowing_teacher, -wanted, error)


@over(logit_cases.pairs)
def symmetric_in_its_arguments(loss, case):
    """Student and teacher may change places."""
    swapped = case._replace(student=case.teacher, teacher=case.student)
    assert_same_values(case, value_of(loss, swapped), value_of(loss, case))


@over(logit_cases.pairs)
def infinite_temperature_plus_gap(loss, case):
    """T4: logit matching is the divergence at infinite temperature plus the gap."""
    limit = value_of(losses.soft_target_kl, case.at(np.inf))
    wanted = limit + value_of(losses.mean_gap, case)
    bound = case.tolerance.value * np.square(largest_difference(case)) + tiny(case)
    assert_close(value_of(loss, case), wanted, 4.0 * bound)
