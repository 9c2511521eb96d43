import io

import pytest
from rich.console import Console

from jaxkd.training import _progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def lines_of(clock, *, terminal):
    """What comes of an epoch of 210 seconds, reported every 10 and then finished."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100)
    progress = _progress.FitProgress(console, "mlp", epochs=2, steps_per_epoch=21)
    with progress:
        for step in range(1, 22):
            clock[0] += 10.0
            progress.show_step(step, 1, {"loss": 1 / step, "kd/agreement": 0.5})
        progress.show_epoch({"epoch": 1, "images_per_second": 6.0, "train/loss": 0.05})
    return file.getvalue().splitlines()


def test_a_long_epoch_in_a_pipe_says_every_30_seconds_where_it_is(clock):
    assert lines_of(clock, terminal=False) == [
        *(f"mlp  epoch 1/2  step {i}/21  loss {1 / i:.4g}" for i in range(3, 21, 3)),
        "mlp  epoch 1/2  loss 0.05  6 images/s",
    ]


def test_on_a_terminal_the_bar_tells_that(clock):
    assert "step 3/21" not in "".join(lines_of(clock, terminal=True))
