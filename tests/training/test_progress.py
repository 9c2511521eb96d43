import io
import re
import sys
import threading

import pytest
from rich.console import Console
from terminal_support import screen, shown

from jaxkd.training import _progress, _progress_displays


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def output_of(clock, *, terminal, width=100, name="mlp", fails=False, record=None):
    """What comes of an epoch of 210 seconds, reported every 10 and then finished."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, _environ={})
    progress = _progress.FitProgress(console, name, epochs=2, steps_per_epoch=21)
    ended = {"epoch": 1, "images_per_second": 6.0, "train/loss": 0.05}
    try:
        with progress:
            for step in range(1, 22):
                clock[0] += 10.0
                progress.show_step(step, 1, {"loss": 1 / step, "kd/agreement": 0.5})
                progress._display._live.refresh() if terminal else None
            progress.show_epoch(ended | (record or {}))
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    return file.getvalue()


def test_a_long_epoch_in_a_pipe_says_every_30_seconds_where_it_is(clock):
    assert output_of(clock, terminal=False).splitlines() == [
        *(f"mlp  epoch 1/2  step {i}/21  loss {1 / i:.4g}" for i in range(3, 21, 3)),
        "mlp  epoch 1/2  loss 0.05  6 images/s",
    ]


def test_on_a_terminal_the_bar_tells_that(clock):
    assert "step 3/21" not in output_of(clock, terminal=True)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("name", ["mlp", "a_network_with_a_long_name", "漢字" * 9])
def test_no_line_of_a_terminal_is_broken(clock, width, name):
    results = {"test/accuracy": 0.5, "train/accuracy": 0.5, "train/kd": 1.0}
    output = output_of(clock, terminal=True, width=width, name=name, record=results)
    bars = [line for line in shown(output) if "━" in line]
    assert bars
    assert all(_progress_displays.cell_len(line) < width for line in bars)
    longest = max(map(_progress_displays.cell_len, shown(output)))
    # An epoch is named in full, however long its name.
    assert longest < max(width, _progress_displays.cell_len(f"{name}  epoch 1/2") + 1)


@pytest.mark.parametrize(
    "width, expected",
    [
        (80, "mlp  ━━━━━━━━━━━━━━━━  epoch 1/2  test 50.00%  loss 0.05  in 3:30"),
        (40, "mlp  ━━━━━━━━━━  1/2  test 50.00%"),
    ],
)
def test_the_bar_stays_with_its_last_numbers(clock, width, expected):
    record = {"test/accuracy": 0.5}
    lines = screen(output_of(clock, terminal=True, width=width, record=record))
    assert lines[-1] == expected
    assert len(lines) == 2  # the epoch's line is above


def test_a_bar_says_when_its_run_has_failed(clock):
    lines = screen(output_of(clock, terminal=True, fails=True))
    assert "stopped after 3:30" in lines[-1]


def test_the_remaining_time_is_that_of_the_steps_without_compilation(clock):
    lines = shown(output_of(clock, terminal=True))
    # The first of 42 steps took 10 seconds, and each of the others 10.
    (line,) = [line for line in lines if "loss 0.2  " in line]
    assert line.endswith(f"{370 // 60}:{370 % 60} left")


def test_before_the_first_step_it_compiles(clock):
    first = shown(output_of(clock, terminal=True))[0]
    assert re.fullmatch(r"mlp  ━+  epoch 1/2  compiling  0:00", first)


def test_a_terminal_without_unicode_gets_a_plain_bar():
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="ascii")
    console = Console(file=stream, force_terminal=True, width=80, _environ={})
    with _progress.FitProgress(console, "mlp", epochs=1, steps_per_epoch=2) as progress:
        progress.show_step(1, 1, {"loss": 1.0})
    stream.flush()
    (bar,) = screen(file.getvalue().decode())
    assert bar.startswith("mlp  ########          epoch 1/1  loss 1  in 0:0")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "stream, progress, shows",
    [
        (Terminal, None, True),
        (Terminal, False, False),
        (io.StringIO, None, False),
        (io.StringIO, True, True),
    ],
)
def test_progress_is_shown_on_a_terminal_or_if_asked_for(
    monkeypatch, stream, progress, shows
):
    monkeypatch.setattr(sys, "stdout", stream())
    assert _progress.console_for(progress, None).quiet != shows


def test_colors_forced_upon_a_pipe_bring_no_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert _progress.console_for(None, None).quiet


def test_a_console_shows_progress_unless_it_is_declined():
    console = Console(file=io.StringIO())
    assert _progress.console_for(None, console) is console
    assert _progress.console_for(False, console).quiet


def test_a_process_without_stdout_shows_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert _progress.console_for(None, None).quiet


def test_two_threads_do_not_draw_on_the_same_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    quiet = []
    thread = threading.Thread(
        target=lambda: quiet.append(_progress.console_for(None, None).quiet)
    )
    thread.start()
    thread.join()
    assert quiet == [True]
