import pytest

from jaxkd.runs import _summary


def test_a_single_value_has_no_deviation():
    single = {"mean": 0.5, "std": None, "values": [0.5]}
    assert _summary.mean_and_deviation([0.5]) == single
    assert _summary.shown(single) == "50.00%"
    several = _summary.mean_and_deviation([0.5, 0.7])
    assert several["std"] == pytest.approx(0.1 * 2**0.5)
