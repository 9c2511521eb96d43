"""Where progress is shown: a terminal, a notebook, a log, or nowhere."""

import dataclasses
import html
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

_GAP = "  "
_LONGEST_NAME = 20  # cells
_FULL_WIDTH = 60  # cells of a line from which on the bar is long and "epoch" is written
_LONG_BAR, _SHORT_BAR = 16, 10
_NOTEBOOK_SECONDS = 0.2  # between two updates of a notebook's cell


@dataclasses.dataclass
class Shown:
    """What a progress display shows.

    Attributes:
        description: What is being trained.
        epochs: Epochs of the whole run.
        total: Steps of the whole run.
        completed: Steps taken so far.
        epoch: The current epoch, from 1.
        activity: What happens besides steps, such as compilation; may be empty.
        numbers: The newest metrics as text, the most important first.
        ending: How the run has ended; empty while it goes on.
    """

    description: str
    epochs: int
    total: int
    completed: int
    epoch: int
    activity: str = ""
    numbers: list[str] = dataclasses.field(default_factory=list)
    ending: str = ""
    _began: float = 0.0
    _timed_from: tuple[float, int] | None = None

    def begin(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def advance(self, completed: int, epoch: int, numbers: list[str]) -> None:
        """Note the newest step."""
        self.completed, self.epoch, self.numbers = completed, epoch, numbers
        if self._timed_from is None:  # compilation is over
            self._timed_from = time.monotonic(), completed

    def end(self, *, failed: bool) -> None:
        """Note that the run has ended."""
        self.activity = ""
        self.ending = "stopped after" if failed else "in"

    def time(self) -> str:
        """Return the remaining time, or the whole time at the end."""
        now = time.monotonic()
        if self.ending:
            return f"{self.ending} {_duration(now - self._began)}"
        since, first = self._timed_from or (now, self.completed)
        taken = self.completed - first
        if taken <= 0:
            return _duration(now - self._began)
        left = (self.total - self.completed) * (now - since) / taken
        return f"{_duration(left)} left"

    def line(self, width: int) -> tuple[str, int, str]:
        """Return the description, the cells of the bar, and the text after it.

        Together they take at most ``width`` cells. Numbers that do not fit are left
        out, the last ones first.
        """
        name = self.description
        longest = min(_LONGEST_NAME, width // 4)
        if cell_len(name) > longest:
            name = set_cell_size(name, max(1, longest - 1)) + "…"
        full = width >= _FULL_WIDTH
        parts = [f"{'epoch ' if full else ''}{self.epoch}/{self.epochs}"]
        bar = _LONG_BAR if full else _SHORT_BAR
        room = width - cell_len(name) - 2 * len(_GAP) - bar
        extra = [self.activity] if self.activity else self.numbers
        # The time comes last, and is more important than all but the first number.
        clock, taken = self.time(), [*parts, *extra[:1]]
        with_time = cell_len(_GAP.join([*taken, clock])) <= room
        reserved = len(_GAP) + len(clock) if with_time else 0
        for part in extra:
            if cell_len(_GAP.join([*parts, part])) + reserved > room:
                break
            parts.append(part)
        if with_time:
            parts.append(clock)
        text = _GAP.join(parts)
        left = width - cell_len(name) - 2 * len(_GAP) - cell_len(text)
        return name, max(0, min(bar, left)), text

    @property
    def fraction(self) -> float:
        """The share of the steps that are done."""
        return self.completed / max(1, self.total)


class Display:
    """Shows nothing, and is the base of what does."""

    def start(self) -> None:
        """Begin to show."""

    def update(self) -> None:
        """Show the newest numbers."""

    def epoch(self, line: str, parts: Sequence[str], important: int) -> None:
        """Show that an epoch has ended.

        Args:
            line: The whole line.
            parts: Its parts, for displays that do not have room for it.
            important: The index of the part to keep longest, after the first.
        """

    def log(self, line: str) -> None:
        """Show a line during an epoch, where there is no bar."""

    def stop(self) -> None:
        """Show the last numbers."""


def display_on(console: Console, shown: Shown) -> Display:
    """Return the display that fits a console."""
    if console.quiet:
        return Display()
    if console.is_jupyter:
        return NotebookBar(shown)
    return TerminalBar(console, shown) if console.is_terminal else Log(console)


class Log(Display):
    """Plain lines for a pipe or a file."""

    def __init__(self, console: Console):
        self._console = console

    def epoch(self, line: str, parts: Sequence[str], important: int) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def log(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


class TerminalBar(Display):
    """A bar in one line of a terminal, below a line for each epoch."""

    def __init__(self, console: Console, shown: Shown):
        self._console, self._shown = console, shown
        self._live = Live(self, console=console, refresh_per_second=8)

    def start(self) -> None:
        self._live.start(refresh=True)

    def epoch(self, line: str, parts: Sequence[str], important: int) -> None:
        text = fitting(parts, important, self._console.width)
        self._console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._live.stop()

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Text]:
        """Render the bar."""
        # Some terminals break a line that fills their whole width.
        name, cells, text = self._shown.line(options.max_width - 1)
        solid, half = ("#", "") if options.ascii_only else ("━", "╸")
        halves = int(2 * cells * min(1.0, self._shown.fraction))
        done = solid * (halves // 2) + (half if halves % 2 else "")
        whole = self._shown.fraction >= 1
        bar = Text(no_wrap=True, end="")
        bar.append(f"{name}{_GAP}")
        bar.append(done, "bar.finished" if whole else "bar.complete")
        rest = cells - len(done)
        bar.append((" " if options.ascii_only else solid) * rest, "bar.back")
        bar.append(f"{_GAP}{text}")
        yield bar


class NotebookBar(Display):
    """A bar in the output of a notebook's cell, which is updated in place."""

    def __init__(self, shown: Shown):
        self._shown, self._last, self._handle = shown, 0.0, None

    def start(self) -> None:
        from IPython.display import display

        self._handle: Any = display(self, display_id=True)

    def update(self) -> None:
        if (now := time.monotonic()) - self._last >= _NOTEBOOK_SECONDS:
            self._last = now
            self._show()

    def epoch(self, line: str, parts: Sequence[str], important: int) -> None:
        self._show()

    def stop(self) -> None:
        self._show()

    def _show(self) -> None:
        if self._handle is not None:
            self._handle.update(self)

    def _repr_html_(self) -> str:
        shown = self._shown
        activity = [shown.activity] if shown.activity else shown.numbers
        words = [f"epoch {shown.epoch}/{shown.epochs}", *activity, shown.time()]
        text = html.escape(" · ".join(words))
        return (
            '<div style="font-family: monospace">'
            f"{html.escape(shown.description)} "
            f'<progress value="{shown.completed}" max="{shown.total}"></progress> '
            f"{text}</div>"
        )

    def __repr__(self) -> str:
        name, _, text = self._shown.line(120)
        return f"{name}{_GAP}{text}"


def fitting(parts: Sequence[str], important: int, width: int) -> str:
    """Join the parts that fit into a line: the first, an important one, the others."""
    order = [0, important, *range(1, len(parts))]
    chosen: list[int] = []
    for index in dict.fromkeys(i for i in order if i < len(parts)):
        line = _GAP.join(parts[i] for i in sorted([*chosen, index]))
        if not chosen or cell_len(line) < width:
            chosen.append(index)
    return _GAP.join(parts[i] for i in sorted(chosen))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
