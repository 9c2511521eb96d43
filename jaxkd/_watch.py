"""What a person sees of a long job: a bar on a terminal, now and then a line else."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# A job that is over sooner says nothing.
_FIRST_SECONDS = 5.0
_SECONDS = 30.0


class Watch:
    """Shows how far a job is.

    On a terminal that is a bar, gone at the end. In a pipe or a log file it is a line
    after five seconds, one every 30 seconds then, and one at the end of a job that had
    others.

    Args:
        description: What is being done.
        total: How many there are to do.
        console: Where to show it; by default on stderr.
        clock: Seconds that never run backwards.

    Example:
        >>> import io
        >>> from rich.console import Console
        >>> from jaxkd import _watch
        >>> log, seconds = Console(file=io.StringIO()), iter([0.0, 1.0, 6.0, 12.5])
        >>> with _watch.Watch("counting", 200, log, clock=lambda: next(seconds)) as w:
        ...     w(10)
        ...     w(100)
        >>> print(log.file.getvalue(), end="")
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
        # Slow to import, and the data layer needs it for nothing else.
        from rich.console import Console
        from rich.progress import Progress

        self._description, self._total, self._clock = description, total, clock
        self._console = Console(stderr=True) if console is None else console
        self._bar = None
        if self._console.is_terminal:
            self._bar = Progress(console=self._console, transient=True)
            self._task = self._bar.add_task(description, total=total)
        self._done, self._said = 0, False

    def __enter__(self) -> "Watch":
        self._started = self._clock()
        self._next = self._started + _FIRST_SECONDS
        if self._bar is not None:
            self._bar.start()
        return self

    def __call__(self, done: int) -> None:
        """Tells how many are done."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif (now := self._clock()) >= self._next:
            self._next, self._said = now + _SECONDS, True
            self._say("")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._said:
            self._say(f" in {self._clock() - self._started:.0f} s")

    def _say(self, more: str) -> None:
        share = f"{self._done / max(1, self._total):.0%}"
        self._console.print(
            f"{self._description}: {self._done:,} of {self._total:,} ({share}){more}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
