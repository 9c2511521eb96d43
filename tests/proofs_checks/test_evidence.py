import numpy as np
import pytest

from proofs_checks import Settings, Tolerance, Verdict
from proofs_checks._evidence import (
    Worst,
    claim,
    control,
    difference_report,
    distance,
    place,
)

TOLERANCE = Tolerance(float64=1e-3, float32=1e-1, bfloat16=None)


def worst_of(*deviations):
    worst = Worst()
    for number, some in enumerate(deviations):
        worst.add(some, lambda row, block=number: {"block": block, "row": row})
    return worst


def test_the_worst_case_is_kept_with_its_place():
    worst = worst_of([0.1, 0.3], [0.2, 0.5, 0.4], [0.5])
    assert (worst.cases, worst.measured, worst.where) == (
        6,
        0.5,
        {"block": 1, "row": 1},
    )


def test_a_worst_case_without_a_description_is_kept_too():
    worst = Worst()
    for deviation in (0.3, 0.1):
        worst.add(deviation, lambda row: {})
    assert worst.measured == 0.3


def test_nan_counts_as_infinitely_bad():
    worst = worst_of([0.1], [np.nan, 0.2], [np.inf])
    assert worst.measured == np.inf
    assert worst.where == {"block": 1, "row": 0}


def test_deviations_with_two_axes_are_refused():
    with pytest.raises(AssertionError, match="rank 2"):
        worst_of(np.zeros((2, 2)))


def test_arrays_of_different_shapes_are_not_broadcast():
    assert distance([1.0, 2.0], [3.0, 2.0]).tolist() == [2.0, 0.0]
    with pytest.raises(AssertionError, match=r"\(2,\), \(2, 1\)"):
        distance(np.zeros(2), np.zeros((2, 1)))


def test_a_report_names_the_leaf_that_differs_and_by_how_much():
    found = {"head": {"kernel": np.array([1.0, 2.0]), "bias": np.zeros(2)}}
    expected = {"head": {"kernel": np.array([1.0, 2.25]), "bias": np.zeros(2)}}
    report = difference_report(found, expected, atol=0.1)
    assert "'head/kernel'" in report
    assert "[1]: 2.0 (ACTUAL), 2.25 (DESIRED)" in report
    assert "Max absolute difference among violations: 0.25" in report
    assert "\n" not in report


@pytest.mark.parametrize("atol", [0.3, None])
def test_trees_within_the_tolerance_or_without_one_have_no_report(atol):
    assert difference_report([np.zeros(2)], [np.full(2, 0.25)], atol=atol) == ""


def test_a_place_keeps_whole_numbers_whole():
    assert place({"case": 27675, "R/T": 284.8871}) == "case 27675, R/T 284.9"


@pytest.mark.parametrize(
    "dtype, verdict",
    [
        ("float64", Verdict.FAILS),
        ("float32", Verdict.HOLDS),
        ("bfloat16", Verdict.LOST),
    ],
)
def test_a_claim_is_judged_by_the_tolerance_of_its_dtype(dtype, verdict):
    settings = Settings(dtype=dtype)
    evidence = claim("text", worst_of([0.01]), TOLERANCE, settings, unit="error")
    assert evidence.verdict is verdict


@pytest.mark.parametrize(
    "deviation, verdict",
    [
        (0.01, Verdict.NOT_REFUTED),
        (0.2, Verdict.REFUTED),
        (np.nan, Verdict.NOT_REFUTED),
        (np.inf, Verdict.NOT_REFUTED),
    ],
)
def test_a_control_has_to_exceed_its_bound_by_a_finite_number(deviation, verdict):
    evidence = control("text", worst_of([deviation]), 0.1, unit="error")
    assert evidence.verdict is verdict


def test_only_broken_claims_and_controls_that_hold_are_failures():
    failures = {verdict for verdict in Verdict if verdict.failure}
    assert failures == {Verdict.FAILS, Verdict.NOT_REFUTED}
