"""The progress display of a run."""

import statistics
import sys
import threading
import time
from types import TracebackType
from typing import Any

import jax
from rich.console import Console

from jaxkd.training._devices.processes import is_first
from jaxkd.training._hooks import Hook, Run
from jaxkd.training._progress_displays import Display, Shown, display_on

COMPILING, EVALUATING = "compiling", "evaluating"


def console_for(progress: bool | None, console: Console | None) -> Console:
    """Return the console that shows the progress of a run.

    Args:
        progress: Whether to show it; None shows it in a notebook and on a terminal.
        console: The console, if the caller has one.

    Returns:
        That console or one for stdout; a quiet one if nothing is to be shown.
    """
    if progress is False:
        return Console(quiet=True)
    if console is not None:
        return console
    console = Console()
    wanted = progress or console.is_jupyter or _on_terminal()
    return console if wanted and is_first() else Console(quiet=True)


def _on_terminal() -> bool:
    """Return whether stdout is a terminal that no other thread shows a bar on."""
    alone = threading.current_thread() is threading.main_thread()
    return alone and sys.stdout is not None and sys.stdout.isatty()


class FitProgress(Hook):
    """A live bar on a terminal or in a notebook, and a plain line per epoch elsewhere.

    The bar fits the width of the terminal, and stays with its last numbers. Above it, a
    terminal also gets a line per epoch. Off a terminal, a long epoch prints a line
    every 30 seconds, so that a log file shows whether a run is slow or hangs.

    Args:
        console: Where to show it.
        description: What is being trained.
        epochs: Epochs of the whole run.
        steps_per_epoch: Steps of one epoch.
        completed: Steps taken before a resume.
    """

    refresh_seconds = 0.5
    line_seconds = 30.0

    def __init__(
        self,
        console: Console,
        description: str,
        *,
        epochs: int,
        steps_per_epoch: int,
        completed: int = 0,
    ):
        self._steps_per_epoch = steps_per_epoch
        self._last_refresh = 0.0
        self._last_line = time.monotonic()
        self._shown = Shown(
            description,
            epochs=epochs,
            total=epochs * steps_per_epoch,
            completed=completed,
            epoch=min(epochs, 1 + completed // steps_per_epoch),
            activity=COMPILING,
        )
        self._display: Display = display_on(console, self._shown)

    def __enter__(self) -> "FitProgress":
        self._shown.begin()
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.end(failed=error is not None)
        self._display.stop()

    def due(self, run: Run) -> bool:
        """Return whether to refresh; it makes the host wait for the device."""
        # Several processes must not consult their clocks.
        if jax.process_count() > 1 or not run.steps_into_epoch:
            return True
        return time.monotonic() - self._last_refresh >= self.refresh_seconds

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        """Show the newest step's metrics."""
        epoch = 1 + (run.step - 1) // self._steps_per_epoch
        if run.steps_into_epoch == 0 and epoch > run.program.pretraining_epochs:
            self._shown.activity = EVALUATING
        else:
            self._shown.activity = ""
        self.show_step(run.step, epoch, metrics)

    def on_epoch(self, run: Run, record: dict[str, Any]) -> None:
        """Print the epoch."""
        self.show_epoch(record)

    def between_epochs(self, run: Run) -> None:
        """Show that the stage after pretraining is compiled."""
        if run.step == run.program.pretraining_steps:
            self._shown.activity = COMPILING
            self._display.update()

    def show_step(self, completed: int, epoch: int, metrics: dict[str, float]) -> None:
        """Update the bar, or print a line if the last one is long ago."""
        self._last_refresh = time.monotonic()
        shown = self._shown
        ended = completed % self._steps_per_epoch == 0  # then the epoch's line is next
        if shown.activity == COMPILING:
            shown.activity = ""
        shown.advance(completed, epoch, _parts_of(metrics))
        self._display.update()
        waited = self._last_refresh - self._last_line
        if waited >= self.line_seconds and not ended:
            self._last_line = self._last_refresh
            taken = completed - (epoch - 1) * self._steps_per_epoch
            self._display.log(
                f"{shown.description}  epoch {epoch}/{shown.epochs}"
                f"  step {taken}/{self._steps_per_epoch}  {_brief(metrics)}"
            )

    def show_epoch(self, record: dict[str, Any]) -> None:
        """Print a finished epoch as a line."""
        self._last_line = time.monotonic()
        metrics = {
            k.removeprefix("train/"): v for k, v in record.items() if "train/" in k
        }
        shown, own, results = self._shown, _parts_of(metrics), _results(record)
        shown.activity = ""
        shown.numbers = [*results, *own]
        head = f"{shown.description}  epoch {record['epoch']}/{shown.epochs}"
        speed = f"{record['images_per_second']:,.0f} images/s"
        parts = [" ".join(own), ", ".join(_results(record, in_full=True))]
        self._display.epoch(
            "  ".join(filter(None, [head, *parts, speed])),
            [head, *own, *results, speed],
            1 + len(own),
        )


def _results(record: dict[str, Any], *, in_full: bool = False) -> list[str]:
    """Return the accuracies of an epoch's evaluation, the test accuracy first."""
    results = []
    if (test := record.get("test/accuracy")) is not None:
        results.append(f"test{' accuracy' if in_full else ''} {test:.2%}")
    trials = record.get("trials", {}).get("test/accuracy", ())
    if len(trials) > 1:
        results[0] += f" ± {statistics.stdev(trials):.2%}"
        results[0] += f", mean of {len(trials)}" if in_full else ""
    if (validation := record.get("validation/accuracy")) is not None:
        results.append(f"validation {validation:.2%}")
    if "test/ema_accuracy" in record:
        results.append(f"averaged {record['test/ema_accuracy']:.2%}")
    return results


def _parts_of(metrics: dict[str, float]) -> list[str]:
    """Format the loss, its parts and the accuracy.

    Details (``part/metric``) and the learning rate are in the files of the run.
    """
    hidden = {name for name in metrics if "/" in name or name == "learning_rate"}
    return [f"{k} {v:.4g}" for k, v in metrics.items() if k not in hidden]


def _brief(metrics: dict[str, float]) -> str:
    return " ".join(_parts_of(metrics))
