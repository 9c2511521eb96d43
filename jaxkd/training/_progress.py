"""The progress display of a run."""

import statistics
import time
from types import TracebackType
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jaxkd.training._hooks import Hook, Run


class FitProgress(Hook):
    """A live bar on a terminal, and a plain line per epoch elsewhere.

    Off a terminal, a long epoch also prints a line every 30 seconds, so that a log file
    shows whether a run is slow or hangs.

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
        self._console = console
        self._description = description
        self._epochs = epochs
        self._last_refresh = 0.0
        self._last_line = time.monotonic()
        self._steps_per_epoch = steps_per_epoch
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            description,
            total=epochs * steps_per_epoch,
            completed=completed,
            epoch=1 + completed // steps_per_epoch,
            status="",
        )

    def __enter__(self) -> "FitProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def due(self, run: Run) -> bool:
        """Return whether to refresh; it makes the host wait for the device."""
        # Several processes must not consult their clocks.
        if jax.process_count() > 1 or not run.steps_into_epoch:
            return True
        return time.monotonic() - self._last_refresh >= self.refresh_seconds

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        """Show the newest step's metrics."""
        epoch = 1 + (run.step - 1) // self._steps_per_epoch
        self.show_step(run.step, epoch, metrics)

    def on_epoch(self, run: Run, record: dict[str, Any]) -> None:
        """Print the epoch."""
        self.show_epoch(record)

    def show_step(self, completed: int, epoch: int, metrics: dict[str, float]) -> None:
        """Update the bar, or print a line if the last one is long ago."""
        self._last_refresh = time.monotonic()
        self._bar.update(
            self._task, completed=completed, epoch=epoch, status=_brief(metrics)
        )
        ended = completed % self._steps_per_epoch == 0  # then the epoch's line is next
        waited = self._last_refresh - self._last_line
        if waited >= self.line_seconds and not ended and self._bar.disable:
            self._last_line = self._last_refresh
            taken = completed - (epoch - 1) * self._steps_per_epoch
            self._console.print(
                f"{self._description}  epoch {epoch}/{self._epochs}"
                f"  step {taken}/{self._steps_per_epoch}  {_brief(metrics)}",
                highlight=False,
                soft_wrap=True,
            )

    def show_epoch(self, record: dict[str, Any]) -> None:
        """Print a finished epoch as a line."""
        self._last_line = time.monotonic()
        parts = {
            k.removeprefix("train/"): v for k, v in record.items() if "train/" in k
        }
        test = record.get("test/accuracy")
        shown = "" if test is None else f"  test accuracy {test:.2%}"
        trials = record.get("trials", {}).get("test/accuracy", ())
        if len(trials) > 1:
            shown += f" ± {statistics.stdev(trials):.2%}, mean of {len(trials)}"
        if (validation := record.get("validation/accuracy")) is not None:
            shown += f", validation {validation:.2%}"
        if "test/ema_accuracy" in record:
            shown += f", averaged {record['test/ema_accuracy']:.2%}"
        self._console.print(
            f"{self._description}  epoch {record['epoch']}/{self._epochs}",
            *filter(None, [f"{_brief(parts)}{shown}"]),
            f"{record['images_per_second']:,.0f} images/s",
            sep="  ",
            highlight=False,
            soft_wrap=True,
        )


def _brief(metrics: dict[str, float]) -> str:
    """Format the loss, its parts and the accuracy.

    Details (``part/metric``) and the learning rate are in the files of the run.
    """
    hidden = {name for name in metrics if "/" in name or name == "learning_rate"}
    shown = [f"{k} {v:.4g}" for k, v in metrics.items() if k not in hidden]
    return " ".join(shown)
