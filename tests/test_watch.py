import io

import pytest
from rich.console import Console

from jaxkd._watch import Watch


def watched(times, *, terminal=False):
    """The output of a job that reports at certain seconds, and ends at the last."""
    file, clock = io.StringIO(), iter([0.0, *times])
    console = Console(file=file, force_terminal=terminal, width=80)
    with Watch("decoding", 1000, console, clock=lambda: next(clock)) as watch:
        for i in range(1, len(times)):
            watch(100 * i)
    return file.getvalue()


def test_a_log_has_a_line_after_5_seconds_and_then_every_30_seconds():
    assert watched([4.0, 6.0, 20.0, 35.9, 36.1, 50.0]).splitlines() == [
        "decoding: 200 of 1,000 (20%)",
        "decoding: 500 of 1,000 (50%)",
        "decoding: 500 of 1,000 (50%) in 50 s",
    ]


def test_a_short_job_prints_nothing():
    assert watched([1.0, 2.0, 3.0]) == ""


def test_a_terminal_shows_a_bar():
    assert "decoding" in watched([1.0], terminal=True)


def test_a_job_that_fails_removes_its_bar():
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(ZeroDivisionError), Watch("decoding", 10, console) as watch:
        watch(1 // 0)
    with Watch("decoding", 10, console):  # a live display still runs? rich would raise
        pass
