"""The records of a run's epochs, which can be drawn."""

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from jaxkd._errors import InvalidInputError
from jaxkd.training._records import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What repr and a notebook show of an epoch, if its record has it.
_SHOWN = (
    "train/loss",
    "train/accuracy",
    "validation/accuracy",
    "test/loss",
    "test/accuracy",
    "test/ema_accuracy",
)
_FIRST, _LAST = 3, 7  # rows of a notebook's table


class History(list[Record]):
    """One record per epoch, as a list of dicts that can be drawn.

    ``history[-1]["test/accuracy"]`` is the accuracy after the last epoch. The whole
    list can be passed to ``pandas.DataFrame``. :func:`fit` says what a record holds.

    Example:
        >>> from jaxkd import training
        >>> history = training.History(
        ...     [
        ...         {"epoch": 1, "train/loss": 2.5, "test/accuracy": 0.25},
        ...         {"epoch": 2, "train/loss": 1.5, "test/accuracy": 0.5},
        ...     ]
        ... )
        >>> history
        History(epochs=2, last={'train/loss': 1.5, 'test/accuracy': 0.5})
        >>> history[-1]["test/accuracy"]
        0.5
        >>> figure = history.plot()  # in a notebook, `history.plot()` shows it
    """

    def plot(self) -> "Figure":
        """Draw loss, accuracy, and the learning rate if it is recorded.

        With trials, a line is their mean, and a band of the same color goes from the
        lowest to the highest trial.

        Returns:
            A figure of matplotlib. A notebook shows it; elsewhere, write it with
            ``history.plot().savefig("curves.png")``.

        Raises:
            InvalidInputError: If there is no epoch to draw.
        """
        # matplotlib is slow to import, and training does not need it.
        from jaxkd.training._history_figure import draw

        if not self:
            raise InvalidInputError(
                "history has no epochs, so there is nothing to draw. Use the history "
                "that training.fit returned.",
                argument="history",
            )
        return draw(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "History": ...
    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return History(found) if isinstance(index, slice) else found

    def __repr__(self) -> str:
        if not self:
            return "History(epochs=0)"
        last = {k: round(self[-1][k], 4) for k in _SHOWN if k in self[-1]}
        return f"History(epochs={len(self)}, last={last})"

    def _repr_html_(self) -> str:
        names = [k for k in _SHOWN if any(k in record for record in self)]
        head = "".join(f"<th>{html.escape(k)}</th>" for k in ("epoch", *names))
        rows = "".join(_row(cells) for cells in self._cells(names))
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{len(self)} epochs; <code>.plot()</code> draws them</p>"
        )

    def _cells(self, names: list[str]) -> Iterator[list[str]]:
        """Yield the texts of the table's rows; those in the middle are left out."""
        left_out = len(self) - _FIRST - _LAST
        for index, record in enumerate(self):
            if left_out > 1 and _FIRST <= index < _FIRST + left_out:
                if index == _FIRST:
                    yield ["…"] * (1 + len(names))
                continue
            numbers = (record.get(name) for name in names)
            shown = ("" if x is None else f"{x:.4g}" for x in numbers)
            yield [str(record.get("epoch", index + 1)), *shown]


def _row(cells: list[str]) -> str:
    return f"<tr>{''.join(f'<td>{html.escape(x)}</td>' for x in cells)}</tr>"
