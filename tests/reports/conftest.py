"""What the tests of comparisons share."""

import pytest
from comparison_support import make_run

from jaxkd.reports import _figures


@pytest.fixture
def four(tmp_path):
    """Three methods on one pair; kd as two runs of a seed each."""
    return [
        make_run(tmp_path, "a", "student", [[0.5, 0.5], [0.69, 0.71]]),
        make_run(tmp_path, "b", "kd", [[0.60], [0.72]]),
        make_run(tmp_path, "c", "kd", [[0.60], [0.76]], seed=1),
        make_run(tmp_path, "d", "hkd+kd", [[0.60, 0.90], [0.77, 0.79]]),
    ]


@pytest.fixture
def without_figures(monkeypatch):
    """Leaves the figures empty: to draw one takes most of a test's time."""
    monkeypatch.setattr(_figures, "comparison_image", lambda *_, **__: b"")
