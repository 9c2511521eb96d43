"""The properties of the logit losses, on logits that Hypothesis draws."""

import chex
import logit_properties as properties
import pytest
from logit_cases import COMMON, DIRECT, EVERYWHERE, UNTEMPERED, UNTEMPERED_COMMON
from logit_properties import check

from jaxkd import losses

OF_EVERY_LOSS = [
    properties.dtype_is_at_least_float32,
    properties.value_is_never_negative,
    properties.per_example_of_a_batch,
    properties.class_permutation_invariance,
    properties.joint_homogeneity,
    properties.common_shift_invariance,
    properties.teacher_gets_no_gradient_by_default,
]
OF_KL = [
    properties.zero_sum_gradient,
    properties.shift_invariance,
    properties.zero_at_shifted_equals_alone,
    properties.two_sided_bound,
    properties.grows_faster_than_linearly,
    properties.gradient_is_temperature_times_probability_gap,
    properties.teacher_gradient_is_the_weighted_difference,
    properties.infinite_temperature_is_half_the_variance,
    properties.gradient_rate,
    properties.masked_classes_take_no_part,
    properties.class_that_the_student_masks_costs_infinitely_much,
    properties.class_that_the_teacher_masks_counts_in_the_student,
    properties.class_that_the_teacher_masks_is_infinitely_far_in_the_limit,
]
OF_MATCHING = [
    properties.gradient_sums_to_the_mean_difference,
    properties.gradient_is_the_difference_over_the_classes,
    properties.symmetric_in_its_arguments,
    properties.infinite_temperature_plus_gap,
]
OF_GAP = [
    properties.gradient_sums_to_the_mean_difference,
    properties.gradient_is_the_mean_difference_over_the_classes,
    properties.symmetric_in_its_arguments,
]
OF = {"soft_target_kl": OF_KL, "logit_matching": OF_MATCHING, "mean_gap": OF_GAP}
every_property = pytest.mark.parametrize(
    "name, holds",
    [
        pytest.param(name, holds, id=f"{name}-{holds.__name__}")
        for name, of_this_loss in OF.items()
        for holds in OF_EVERY_LOSS + of_this_loss
    ],
)


@every_property
def test_loss_has_the_property(name, holds):
    domain = COMMON if name == "soft_target_kl" else UNTEMPERED_COMMON
    check(holds, getattr(losses, name), domain=domain)


@pytest.mark.slow
@every_property
def test_loss_has_the_property_in_every_layout(name, holds):
    domain = EVERYWHERE if name == "soft_target_kl" else UNTEMPERED
    check(holds, getattr(losses, name), domain=domain)


def test_compilation_changes_no_value():
    check(
        properties.jit_agrees_with_eager,
        losses.soft_target_kl,
        domain=DIRECT,
        examples=10,
    )


class TestCompiledAndNot(chex.TestCase):
    """Properties that see values alone, of the loss as it is and of the compiled."""

    def check(self, holds):
        loss = self.variant(losses.soft_target_kl)
        check(holds, loss, domain=DIRECT, examples=10)

    @chex.variants(with_jit=True, without_jit=True)
    def test_value_is_never_negative(self):
        self.check(properties.value_is_never_negative)

    @chex.variants(with_jit=True, without_jit=True)
    def test_shift_invariance(self):
        self.check(properties.shift_invariance)

    @chex.variants(with_jit=True, without_jit=True)
    def test_two_sided_bound(self):
        self.check(properties.two_sided_bound)

    @chex.variants(with_jit=True, without_jit=True)
    def test_joint_homogeneity(self):
        self.check(properties.joint_homogeneity)
