"""Progress of long jobs: a bar on a terminal, occasional lines in a log."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from jaxkd._messages import withdraw

if TYPE_CHECKING:
    from rich.console import Console

# In a log, a job that takes less time than this prints nothing.
_SECONDS_BEFORE_FIRST_LINE = 5.0
_SECONDS_BETWEEN_LINES = 30.0


class Watch:
    """Context manager that shows the progress of a job.

    On a terminal, it shows a bar and removes the bar at the end. In a pipe or log file,
    it prints a line after five seconds, then one every 30 seconds, and a last one at
    the end if it printed any before.

    Args:
        description: Name of the job.
        total: Number of items.
        console: Console to print to; stderr by default.
        clock: Returns the time in seconds; must be monotonic.

    Example:
        >>> import io
        >>> from rich.console import Console
        >>> from jaxkd import _watch
        >>> file, seconds = io.StringIO(), iter([0.0, 1.0, 6.0, 12.5])
        >>> log = Console(file=file)
        >>> with _watch.Watch("counting", 200, log, clock=lambda: next(seconds)) as w:
        ...     w(10)
        ...     w(100)
        >>> print(file.getvalue(), end="")
        counting: 100 of 200 (50%)
        counting: 100 of 200 (50%) in 12 s
    """

    def __init__(
        self,
        description: str,
        total: int,
        console: "Console | None" = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        # rich is slow to import and the data layer needs it only here.
        from rich.console import Console
        from rich.progress import Progress

        self._description, self._total, self._clock = description, total, clock
        self._console = Console(stderr=True) if console is None else console
        self._bar = None
        if self._console.is_terminal:
            self._bar = Progress(console=self._console, transient=True)
            self._task = self._bar.add_task(description, total=total)
        self._done, self._has_printed = 0, False

    def __enter__(self) -> "Watch":
        self._started = self._clock()
        self._next = self._started + _SECONDS_BEFORE_FIRST_LINE
        if self._bar is not None:
            withdraw()
            self._bar.start()
        return self

    def __call__(self, done: int) -> None:
        """Report the number of items that are done."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif (now := self._clock()) >= self._next:
            self._next, self._has_printed = now + _SECONDS_BETWEEN_LINES, True
            self._print()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._has_printed:
            self._print(f" in {self._clock() - self._started:.0f} s")

    def _print(self, more: str = "") -> None:
        share = f"{self._done / max(1, self._total):.0%}"
        self._console.print(
            f"{self._description}: {self._done:,} of {self._total:,} ({share}){more}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
