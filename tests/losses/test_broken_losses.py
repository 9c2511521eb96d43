"""Every mistake is noticed: without this, properties that hold would prove little."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import broken_losses as broken
import hypothesis
import logit_properties as properties
import pytest
from hypothesis import strategies as st
from logit_cases import EVERYWHERE, MODERATE, UNTEMPERED, Domain
from logit_properties import check

pytestmark = pytest.mark.slow

# Where the bounds on the distance from the limit are narrow.
WARM = dataclasses.replace(MODERATE, temperatures=st.just(512.0))
HOT = dataclasses.replace(
    MODERATE,
    layouts=(("float32", (2,)), ("float32", (12,))),
    temperatures=st.sampled_from([1e4, 1e6, 1e8]),
    tolerances=EVERYWHERE.tolerances,
)
LOW_PRECISION = dataclasses.replace(EVERYWHERE, layouts=(("bfloat16", (12,)),))
DIRECT = dataclasses.replace(MODERATE, direct=True)
SMALL = dataclasses.replace(UNTEMPERED, layouts=(("float32", (2,)),))


class Broken(NamedTuple):
    """A loss, the property that it lacks, and where that shows."""

    loss: Callable
    property: Callable
    domain: Domain = MODERATE


BROKEN = {
    "wrong sign": Broken(broken.wrong_sign, properties.value_is_never_negative),
    "T instead of T^2": Broken(
        broken.temperature_not_squared, properties.joint_homogeneity
    ),
    "no factor T^2": Broken(broken.no_factor, properties.two_sided_bound, WARM),
    "student alone softened": Broken(
        broken.student_alone_softened, properties.zero_at_shifted_equals_alone
    ),
    "teacher alone softened": Broken(
        broken.teacher_alone_softened, properties.zero_at_shifted_equals_alone
    ),
    "reversed divergence": Broken(
        broken.reversed_divergence,
        properties.gradient_is_temperature_times_probability_gap,
    ),
    "Jensen-Shannon": Broken(broken.jensen_shannon, properties.two_sided_bound, WARM),
    "squared probabilities": Broken(
        broken.squared_probabilities, properties.gradient_rate, WARM
    ),
    "cross-entropy": Broken(
        broken.cross_entropy, properties.zero_at_shifted_equals_alone
    ),
    "mean over classes": Broken(
        broken.mean_over_classes, properties.masked_classes_take_no_part
    ),
    "last class dropped": Broken(
        broken.last_class_dropped, properties.class_permutation_invariance
    ),
    "softmax over the batch": Broken(
        broken.softmax_over_the_batch, properties.per_example_of_a_batch
    ),
    "mean over the batch": Broken(broken.batch_mean, properties.per_example_of_a_batch),
    "teacher not stopped": Broken(
        broken.teacher_not_stopped, properties.teacher_gets_no_gradient_by_default
    ),
    "teacher always stopped": Broken(
        broken.teacher_always_stopped,
        properties.teacher_gradient_is_the_weighted_difference,
    ),
    "student stopped": Broken(broken.student_stopped, properties.gradient_rate, WARM),
    "mean not removed": Broken(broken.mean_not_removed, properties.zero_sum_gradient),
    "not normalized": Broken(broken.not_normalized, properties.shift_invariance),
    "epsilon in the logarithm": Broken(
        broken.epsilon_in_the_logarithm,
        properties.gradient_is_temperature_times_probability_gap,
    ),
    "floored": Broken(broken.floored, properties.zero_at_shifted_equals_alone),
    "absolute terms": Broken(broken.absolute_terms, properties.two_sided_bound, WARM),
    "capped": Broken(broken.capped, properties.grows_faster_than_linearly),
    "in bits": Broken(broken.in_bits, properties.two_sided_bound, WARM),
    "computed in bfloat16": Broken(
        broken.computed_in_bfloat16, properties.shift_invariance
    ),
    "low precision kept": Broken(
        broken.low_precision_kept, properties.dtype_is_at_least_float32, LOW_PRECISION
    ),
    "plain form, at high temperatures": Broken(
        broken.plain, properties.two_sided_bound, HOT
    ),
    "plain form, below zero": Broken(
        broken.plain, properties.value_is_never_negative, HOT
    ),
    "plain form, at infinite temperature": Broken(
        broken.plain, properties.infinite_temperature_is_half_the_variance
    ),
    "sample variance": Broken(
        broken.sample_variance, properties.infinite_temperature_is_half_the_variance
    ),
    "0 log 0 not guarded": Broken(
        broken.zero_times_infinity, properties.masked_classes_take_no_part
    ),
    "masked log-ratios zeroed": Broken(
        broken.masked_log_ratios_zeroed,
        properties.class_that_the_student_masks_costs_infinitely_much,
    ),
    "classes masked by either ignored": Broken(
        broken.classes_masked_by_either_ignored,
        properties.class_that_the_teacher_masks_counts_in_the_student,
    ),
    "other classes ignored in the limit": Broken(
        broken.other_classes_ignored_in_the_limit,
        properties.class_that_the_teacher_masks_is_infinitely_far_in_the_limit,
    ),
    "concrete temperature rounded": Broken(
        broken.concrete_temperature_rounded, properties.jit_agrees_with_eager, DIRECT
    ),
    "matching: sum of squares": Broken(
        broken.sum_of_squares, properties.gradient_sums_to_the_mean_difference, SMALL
    ),
    "matching: not halved": Broken(
        broken.not_halved, properties.gradient_is_the_difference_over_the_classes, SMALL
    ),
    "matching: centered": Broken(
        broken.centered, properties.infinite_temperature_plus_gap, SMALL
    ),
    "matching: of unit vectors": Broken(
        broken.matching_of_unit_vectors, properties.common_shift_invariance, SMALL
    ),
    "matching: weighted by the teacher": Broken(
        broken.weighted_by_the_teacher, properties.symmetric_in_its_arguments, SMALL
    ),
    "gap: not squared": Broken(
        broken.absolute_gap, properties.joint_homogeneity, SMALL
    ),
    "gap: of the sums": Broken(
        broken.sum_gap,
        properties.gradient_is_the_mean_difference_over_the_classes,
        SMALL,
    ),
}

REJECTIONS = [
    pytest.param(*entry, id=f"{name} - rejected by {entry.property.__name__}")
    for name, entry in BROKEN.items()
]
# What is rejected in these domains is not rejected for its rounding errors.
FOR_MISTAKES = {
    f"{entry.property.__name__} at {temperatures} temperatures": entry
    for temperatures, domain in {"moderate": MODERATE, "high": WARM}.items()
    for entry in BROKEN.values()
    if entry.domain is domain
}


@pytest.mark.parametrize("loss, holds, domain", REJECTIONS)
def test_broken_loss(loss, holds, domain):
    with pytest.raises(AssertionError):
        check(holds, loss, domain=domain, phases=[hypothesis.Phase.generate])


@pytest.mark.parametrize("name", FOR_MISTAKES)
def test_loss_without_a_mistake_passes_where_the_broken_ones_fail(name):
    _, holds, domain = FOR_MISTAKES[name]
    check(holds, broken.right, domain=domain, examples=30)


def test_every_property_rejects_something():
    everything = {
        name for name, x in vars(properties).items() if hasattr(x, "strategy")
    }
    assert everything == {entry.property.__name__ for entry in BROKEN.values()}
