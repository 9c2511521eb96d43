"""The temperatures at which distillation equals logits matching."""

import mpmath
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from jaxkd import InvalidInputError, InvalidTypeError, reports

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def ratio_by_definition(student, teacher, temperature):
    """Transcribes the formulas in float64 NumPy; shares no code with jaxkd."""
    temperature = np.broadcast_to(temperature, len(student))
    p, q = (softmax(x / temperature[:, None], axis=-1) for x in (teacher, student))
    loss = temperature**2 * rel_entr(p, q).sum(axis=-1)
    return loss / (0.5 * (student - teacher).var(axis=-1))


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    scale = 10 ** rng.uniform(-1, 1, (40, 1))
    student, teacher = scale * rng.normal(0, 3, (2, 40, 7))
    return student, teacher + 2.0  # another mean


@pytest.fixture
def found(logits):
    return reports.high_enough_temperatures(*logits, tolerance=0.02)


@pytest.mark.parametrize("temperature", [1.0, 7.0, 300.0])
def test_the_bounds_are_those_of_the_theorem(temperature):
    with mpmath.workdps(40):
        r = mpmath.mpf(20) / temperature
        sharp = [6 / (1 + 5 * mpmath.exp(sign * r)) for sign in (1, -1)]
        band = [mpmath.exp(-r), mpmath.exp(r)]
        both = [[float(x) for x in pair] for pair in (sharp, band)]
    found = reports.limit_bounds(20.0, temperature, num_classes=6)
    np.testing.assert_allclose(found, both[0], rtol=1e-13)
    np.testing.assert_allclose(reports.limit_bounds(20.0, temperature), both[1])


def test_a_range_that_overflows_has_bounds():
    low, high = reports.limit_bounds(1e4, 1.0, num_classes=10)
    assert (low, high) == (0.0, 10.0)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("tolerance", [1e-6, 0.01, 0.5, 0.99])
def test_the_guaranteed_temperature_is_where_the_first_bound_is_met(classes, tolerance):
    found = reports.guaranteed_temperature(
        np.array([0.3, 20.0]), num_classes=classes, tolerance=tolerance
    )
    for logit_range, temperature in zip((0.3, 20.0), found, strict=True):
        with mpmath.workdps(40):
            r = mpmath.mpf(logit_range) / mpmath.mpf(float(temperature))
            low, high = (classes / (1 + (classes - 1) * mpmath.exp(x)) for x in (r, -r))
            used = float(max(high - 1, 1 - low) / tolerance)
        assert used == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 4.0, 1e3])
def test_the_ratio_is_that_of_the_definitions(logits, temperature):
    found = reports.limit_ratios(*logits, temperature)
    expected = ratio_by_definition(*logits, temperature)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_logits_that_differ_by_a_constant_have_ratio_one_and_every_temperature():
    student = np.float32([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    teacher = student + np.float32(8.0)
    np.testing.assert_array_equal(reports.limit_ratios(student, teacher, 2.0), 1.0)
    found = reports.high_enough_temperatures(student, teacher)
    np.testing.assert_array_equal(found.measured, 0.0)
    assert (found.measured_mean, found.first_order) == (0.0, 0.0)


def test_above_the_measured_temperature_every_loss_is_within_the_tolerance(
    logits, found
):
    for factor in np.geomspace(1.001, 100, 60):
        temperatures = factor * found.measured
        ratios = ratio_by_definition(*logits, temperatures)
        assert np.abs(ratios - 1).max() < 0.02


def test_below_the_measured_temperature_every_loss_is_outside(logits, found):
    ratios = ratio_by_definition(*logits, 0.999 * found.measured)
    assert np.abs(ratios - 1).min() > 0.02


@pytest.mark.usefixtures("x64")
def test_the_highest_temperature_outside_counts_although_lower_ones_are_inside():
    # Two of 100 classes are above the others. The variance of the first difference is
    # the same under every softmax; that of the second is the largest where the softmax
    # has half of its mass on the two classes.
    top = np.arange(100) < 2
    teacher = np.tile(np.where(top, 20.0, 0.0), (2, 1))
    alternating = np.where(np.arange(100) % 2, 0.02, -0.02)
    difference = np.stack([alternating, alternating + np.where(top, 0.02, 0.0)])
    student = teacher + difference
    found = reports.high_enough_temperatures(student, teacher, tolerance=0.05)
    assert found.measured[0] < 0.1
    inside, outside = 1.001 * found.measured, 0.999 * found.measured
    assert np.all(np.abs(ratio_by_definition(student, teacher, inside) - 1) < 0.05)
    assert np.all(np.abs(ratio_by_definition(student, teacher, outside) - 1) > 0.05)
    assert abs(ratio_by_definition(student, teacher, 1.0)[1] - 1) < 0.05
    assert found.measured[1] > 2


def test_the_mean_loss_crosses_the_tolerance_at_its_temperature(logits, found):
    half = 0.5 * (logits[0] - logits[1]).var(axis=-1)
    deviations = [
        abs(np.average(ratio_by_definition(*logits, t), weights=half) - 1)
        for t in found.measured_mean * np.array([0.999, 1.001])
    ]
    assert deviations[0] > 0.02 > deviations[1]


def test_ranges_and_limits_are_those_of_the_logits(logits, found):
    ranges = np.maximum(*(np.ptp(x, axis=-1) for x in logits))
    np.testing.assert_allclose(found.logit_range, ranges, rtol=1e-6)
    half = 0.5 * (logits[0] - logits[1]).var(axis=-1)
    np.testing.assert_allclose(found.limit, half, rtol=1e-5)
    assert (found.measured <= found.guaranteed).all()


def test_the_first_order_estimate_is_right_for_a_small_tolerance(logits):
    skewed = np.square(logits)  # the term of first order does not vanish in the mean
    found = reports.high_enough_temperatures(*skewed, tolerance=1e-3)
    assert found.first_order == pytest.approx(found.measured_mean, rel=0.05)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda x: x[:, :1], "two classes, got the shape"),
        (lambda x: x[:0], "at least one image"),
        (lambda x: np.where(x > 0, np.inf, x), "must be finite"),
    ],
)
def test_logits_without_an_answer_are_refused(logits, change, says):
    with pytest.raises(InvalidInputError, match=says):
        reports.high_enough_temperatures(*map(change, logits))


def test_bad_numbers_are_refused(logits):
    with pytest.raises(InvalidInputError, match="tolerance must lie between 0 and 1"):
        reports.high_enough_temperatures(*logits, tolerance=1.0)
    with pytest.raises(InvalidInputError, match="must not be negative, got -1"):
        reports.guaranteed_temperature(-1.0, num_classes=2)
    with pytest.raises(InvalidInputError, match="num_classes must be at least 2"):
        reports.limit_bounds(1.0, 1.0, num_classes=1)


@pytest.mark.usefixtures("unchecked")
def test_arrays_of_other_kinds_are_refused(logits):
    with pytest.raises(InvalidInputError, match="same shape"):
        reports.limit_ratios(logits[0], logits[1][:, :3], 1.0)
    with pytest.raises(InvalidTypeError, match="floating point"):
        reports.limit_ratios(*np.int32(logits), 1.0)
