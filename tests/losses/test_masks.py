"""Masks and weights whose shape fits the rows and the classes alike."""

import inspect

import numpy as np
import pytest

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError

N = 4
ROWS = np.array([True, True, False, True])
LABELS = np.array([0, 3, 1, 2])
MASKED = [
    losses.soft_target_kl,
    losses.logit_matching,
    losses.reverse_kl,
    losses.inter_class_relation,
    losses.multi_level,
    losses.in_chunks(losses.mean_gap, chunk_size=3),
    lambda s, t, where: losses.decoupled_kl(s, t, LABELS, where=where),
    lambda s, t, where: losses.standardize_logits(s, where=where),
]


def logits(*batch):
    return np.random.default_rng(0).normal(size=(2, *batch, N)).astype(np.float32)


@pytest.mark.parametrize("loss", MASKED)
def test_a_mask_that_fits_rows_and_classes_is_refused(loss):
    with pytest.raises(InvalidInputError, match=r"where\[..., None\] for one") as error:
        loss(*logits(N), where=ROWS)
    assert "where[None, ...] for one per class" in str(error.value)
    assert error.value.argument == "where"


@pytest.mark.parametrize(
    "batch, shape",
    [((N, N), (N, N)), ((1, N), (1, N)), ((N, 3), (N,)), ((N, N), (N,))],
)
def test_so_is_one_of_sequences(batch, shape):
    where = np.resize(ROWS, shape)
    with pytest.raises(InvalidInputError, match="fits both the first and the last"):
        losses.soft_target_kl(*logits(*batch), where=where)


def test_a_mask_with_all_axes_is_of_rows_or_of_classes():
    student, teacher = logits(N)
    of_rows = losses.logit_matching(student, teacher, where=ROWS[:, None])
    np.testing.assert_array_equal(of_rows == 0, ~ROWS)
    of_classes = losses.logit_matching(student, teacher, where=ROWS[None])
    kept = losses.logit_matching(student[:, ROWS], teacher[:, ROWS])
    np.testing.assert_allclose(of_classes, kept, rtol=1e-5)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_a_mask_of_classes_may_leave_out_the_rows_that_it_does_not_fit(batch):
    student, teacher = logits(*batch)
    masked = losses.logit_matching(student, teacher, where=ROWS)
    kept = losses.logit_matching(student[..., ROWS], teacher[..., ROWS])
    np.testing.assert_allclose(masked, kept, rtol=1e-5)


def test_a_mask_of_one_entry_fits_without_doubt():
    student, teacher = logits(1)
    one = losses.logit_matching(student, teacher, where=np.array([False]))
    np.testing.assert_array_equal(one, [0.0])


def test_weights_of_negatives_that_fit_anchors_and_negatives_are_refused():
    positive, negatives = logits(N)[0, 0], logits(N)[0]
    with pytest.raises(InvalidInputError, match=r"log_weight\[..., None\] for one"):
        losses.info_nce(positive, negatives, temperature=1.0, log_weight=positive)
    losses.info_nce(positive, negatives, temperature=1.0, log_weight=positive[:, None])


@pytest.mark.parametrize("temperature", [np.ones(N), np.ones((N, 1)), "hot", True, 1j])
def test_a_temperature_that_is_not_one_number_is_refused(temperature):
    unchecked = inspect.unwrap(losses.soft_target_kl)
    with pytest.raises((TypeError, ValueError), match="temperature must be") as error:
        unchecked(*logits(N), temperature=temperature)
    assert error.value.argument == "temperature"


@pytest.mark.parametrize("temperature", [1e-46, 1e-40, 1e-20])
def test_a_temperature_whose_square_vanishes_is_refused(temperature):
    with pytest.raises(InvalidInputError, match="too small for float32"):
        losses.soft_target_kl(*logits(N), temperature=temperature)


def test_a_temperature_whose_square_overflows_is_refused_where_it_must_be_finite():
    with pytest.raises(InvalidInputError, match="too large for float32"):
        losses.decoupled_kl(*logits(N), LABELS, temperature=1e20)
    _checks.check_temperature(temperature=1e20)


@pytest.mark.usefixtures("x64")
def test_float64_holds_temperatures_that_float32_does_not():
    _checks.check_finite_temperature(small=1e-20, large=1e20)
