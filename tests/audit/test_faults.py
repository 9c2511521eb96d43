"""Every mistake is named, and every loss that is right is clean."""

import dataclasses
import functools

import audited_losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkd
from experiments.audits.mistakes import MISTAKES
from experiments.audits.peers import PEERS, keras_kl, plain_kl, top_classes_kl
from jaxkd import losses

pytestmark = pytest.mark.usefixtures("quickly_compiled")

audit = functools.cache(jaxkd.audit)


def mistakes(report):
    return {finding.mistake for finding in report.faults}


def finding(report, mistake):
    return next(f for f in report.findings if f.mistake == mistake)


@pytest.mark.parametrize("loss, mistake", (MISTAKES | PEERS).items())
def test_a_mistake_is_named(loss, mistake):
    report = audit(loss)
    assert mistake in mistakes(report)
    assert finding(report, mistake).remedy


# A loss with one mistake has no other one, apart from the rounding errors of the plain
# formula and what follows from the mistake.
ROUNDING = {"rounding-at-high-temperature", "computed-in-bfloat16"}
CONSEQUENCES = {
    "missing-temperature-factor": set(),
    "mean-over-classes": set(),
    "swapped-arguments": {"masked-nan"},
    "log-target": {"masked-nan", "not-minimal-at-equal", "not-finite"},
    "softmax-twice": set(),
    "temperature-on-one-side": {"excess-temperature-factor", "not-minimal-at-equal"},
    "masked-nan": set(),
    "epsilon-in-log": {"vanishing-gradient"},
    "batch-sum": set(),
    "teacher-not-stopped": set(),
    "clipped-probabilities": {"vanishing-gradient"},
    "top-k-renormalized": {"blind-to-other-classes"},
    "rounding-at-high-temperature": set(),
}


@pytest.mark.parametrize("loss, mistake", (MISTAKES | PEERS).items())
def test_nothing_else_is_found(loss, mistake):
    others = mistakes(audit(loss)) - {mistake} - ROUNDING
    assert others <= CONSEQUENCES[mistake]


def measured(text):
    return float(text.split()[-1])


def test_the_clipped_gradient_is_measured_beside_the_right_one():
    found = finding(audit(keras_kl), "vanishing-gradient")
    assert measured(found.measured) < 1e-13
    assert measured(found.expected) == pytest.approx(np.sqrt(2.0), rel=1e-2)


def test_the_size_of_a_guard_is_found():
    found = finding(audit(keras_kl), "clipped-probabilities")
    assert "clipped at 1e-07" in found.text


def test_the_number_of_kept_classes_is_found():
    found = finding(audit(top_classes_kl), "top-k-renormalized")
    assert "top 5 classes" in found.text


def test_mass_outside_of_the_kept_classes_is_not_seen():
    found = finding(audit(top_classes_kl), "blind-to-other-classes")
    assert measured(found.measured) < 1e-6


def test_the_plain_form_is_wrong_at_ten_thousand_and_right_at_a_hundred():
    report = audit(plain_kl)
    errors = dict(
        zip(report.series["temperature"], report.series["value"], strict=True)
    )
    assert errors[1e4] > 0.5
    assert errors[1e2] < 1e-2


RIGHT = {
    audited_losses.hellinger: {},
    audited_losses.squared_difference: {},
    audited_losses.matching: {"except_": "zero-sum"},
    losses.logit_matching: {},
    losses.mean_gap: {},
}
# These compile for longer, and have the plain formula's rounding errors removed.
SLOW_RIGHT = {
    audited_losses.half_the_mean: {},
    audited_losses.both_directions: {},
    audited_losses.other_skew: {},
    audited_losses.branching: {},
    audited_losses.reverse: {"except_": "form"},
    audited_losses.softened_teacher: {"except_": ("form", "zero-at-equal")},
    audited_losses.with_labels: {"kind": "labeled"},
    losses.soft_target_kl: {},
    losses.transformed_teacher_matching: {},
    losses.weighted_transformed_teacher_matching: {},
    losses.reverse_kl: {},
    losses.jensen_shannon: {},
    losses.skewed_kl: {},
    losses.decoupled_kl: {},
    losses.normalized_kl: {},
    losses.inter_class_relation: {},
    losses.intra_class_relation: {},
    losses.multi_level: {},
}


def standardized(student, teacher):
    student, teacher = map(losses.standardize_logits, (student, teacher))
    return losses.soft_target_kl(student, teacher, temperature=2.0)


@pytest.mark.parametrize("loss, options", RIGHT.items())
def test_a_right_loss_is_clean(loss, options):
    audit(loss, **options).raise_if_unclean()


@pytest.mark.parametrize(
    "loss, form",
    [
        (audited_losses.hellinger, "T² the squared Hellinger distance"),
        (audited_losses.squared_difference, "T² |p - q|²"),
        (audited_losses.cross_entropy, "T² the cross-entropy of p and q"),
        (audited_losses.matching, "mean (z - v)² / 2"),
    ],
)
def test_a_known_loss_is_recognized(loss, form):
    assert audit(loss).outcomes[0].summary == form


@pytest.mark.slow
@pytest.mark.parametrize("loss, options", SLOW_RIGHT.items())
def test_a_right_loss_that_compiles_for_longer_is_clean(loss, options):
    jaxkd.audit(loss, **options).raise_if_unclean()


@pytest.mark.slow
def test_standardized_logits_are_clean_but_for_masks():
    jaxkd.audit(standardized, except_="masks").raise_if_unclean()


def test_logit_matching_without_exceptions_moves_the_mean():
    report = audit(audited_losses.matching)
    assert mistakes(report) == {
        "gradient-moves-the-mean",
        "masked-nan",
        "changed-by-student-shift",
    }


def test_the_teacher_s_entropy_is_a_note_and_no_fault():
    report = audit(audited_losses.cross_entropy)
    assert not finding(report, "offset").fault
    assert not mistakes(report)


@pytest.mark.parametrize(
    "loss, mistake",
    [
        (audited_losses.hidden_temperature, "missing-temperature-factor"),
        (audited_losses.unreduced, "not-reduced"),
    ],
)
def test_other_mistakes_are_named(loss, mistake):
    assert mistake in mistakes(audit(loss))


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss, mistake",
    [
        (audited_losses.over_the_batch, "depends-on-the-batch"),
        (audited_losses.value_dependent, "not-compilable"),
        (audited_losses.wrong_sign, "negative-loss"),
        (audited_losses.student_stopped, "no-student-gradient"),
        (audited_losses.first_class_dropped, "changed-by-class-permutation"),
    ],
)
def test_other_mistakes_that_take_longer_are_named(loss, mistake):
    assert mistake in mistakes(audit(loss))


def test_a_distance_of_embeddings_needs_a_guard_at_zero():
    report = jaxkd.audit(audited_losses.root, kind="embeddings")
    assert mistakes(report) == {"not-finite"}
    assert "gradient" in finding(report, "not-finite").text


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        declaration.loss
        for declaration in losses.INVARIANCES
        if declaration.arguments
        in (losses.Arguments.EMBEDDINGS, losses.Arguments.FEATURE_MAPS)
    ],
)
def test_declared_losses_of_features_are_clean(loss):
    jaxkd.audit(loss).raise_if_unclean()


def test_a_declared_loss_of_feature_maps_is_clean():
    report = jaxkd.audit(losses.hint)
    report.raise_if_unclean()
    assert report.kind == "features"


def test_a_loss_that_converts_to_float32_keeps_its_form():
    report = audit(audited_losses.converted)
    assert mistakes(report) == {"rounding-at-high-temperature"}


def test_a_false_declaration_is_a_fault():
    declared = losses.logit_matching.declaration

    def undeclared(student, teacher):
        return losses.logit_matching(student, teacher)

    undeclared.declaration = type(declared)(
        undeclared,
        declared.arguments,
        invariant=frozenset({losses.Transformation.STUDENT_SHIFT}),
    )
    found = mistakes(jaxkd.audit(undeclared))
    assert {"changed-by-student-shift", "undeclared-symmetry"} <= found


def test_a_scalar_that_is_the_mean_is_no_sum():
    mean = lambda s, v: audited_losses.matching(s, v).mean()
    report = jaxkd.audit(mean, except_="zero-sum")
    assert report.returns == "one number, the mean over the batch"
    assert report.clean


def test_the_inputs_of_bfloat16_are_representable_in_it():
    from jaxkd._audit import _cases

    x = np.random.default_rng(0).normal(0, 3, 100)
    rounded = _cases.to_bfloat16(x)
    np.testing.assert_array_equal(
        rounded, np.asarray(jnp.asarray(rounded, jnp.bfloat16), np.float64)
    )


def test_a_loss_declared_to_be_positive_at_equal_inputs_must_be():
    declared = losses.logit_matching.declaration
    positive = lambda s, v: losses.logit_matching(s, v)
    positive.declaration = dataclasses.replace(declared, zero_at_equal=False)
    assert mistakes(jaxkd.audit(positive)) == {"undeclared-zero"}


def nan_gradient_of_masks(student, teacher):
    """The mask is after the log: the value is right, the gradient is not."""
    teacher = jax.lax.stop_gradient(teacher)
    p, q = (jax.nn.softmax(x) for x in (teacher, student))
    return jnp.where(p > 0.0, p * (jnp.log(p) - jnp.log(q)), 0.0).sum(-1)


def test_a_nan_gradient_of_masks_is_found_though_the_value_is_right():
    found = finding(jaxkd.audit(nan_gradient_of_masks), "masked-nan")
    assert found.measured == "a NaN gradient"
