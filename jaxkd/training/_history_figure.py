"""The figure of a history. Importing this module loads matplotlib."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxkd.training._records import Record

# The palette of Okabe and Ito: distinct with any color vision, and in print.
_COLORS = {
    "train": "#0072B2",
    "test": "#D55E00",
    "validation": "#009E73",
    "test, averaged": "#CC79A7",
}
_PANELS: tuple[tuple[str, float, Mapping[str, str]], ...] = (
    (
        "loss",
        1.0,
        {"train": "train/loss", "test": "test/loss", "validation": "validation/loss"},
    ),
    (
        "accuracy (%)",
        100.0,
        {
            "train": "train/accuracy",
            "test": "test/accuracy",
            "validation": "validation/accuracy",
            "test, averaged": "test/ema_accuracy",
        },
    ),
    ("learning rate", 1.0, {"train": "train/learning_rate"}),
)
_MANY = 40  # epochs above which single points are not marked


class HistoryFigure(Figure):
    """A figure that a notebook shows without pyplot, and without its backend."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def draw(history: Sequence[Record]) -> Figure:
    """Draw a panel for the loss, the accuracy, and the learning rate."""
    panels = [
        (label, scale, lines)
        for label, scale, lines in _PANELS
        if any(metric in record for record in history for metric in lines.values())
    ]
    columns = max(1, len(panels))
    figure = HistoryFigure(figsize=(4.2 * columns, 3.2), layout="constrained")
    all_axes = figure.subplots(1, columns, squeeze=False)[0]
    for axes, (label, scale, lines) in zip(all_axes, panels, strict=False):
        _draw_panel(axes, history, lines, scale)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        if len(axes.lines) > 1:
            axes.legend(frameon=False)
    return figure


def _draw_panel(
    axes: Axes, history: Sequence[Record], lines: Mapping[str, str], scale: float
) -> None:
    for name, metric in lines.items():
        records = [r for r in history if metric in r]
        if not records:
            continue
        epochs = [r["epoch"] for r in records]
        values = scale * np.array([r[metric] for r in records], float)
        marker = "." if len(records) < _MANY else ""
        axes.plot(epochs, values, color=_COLORS[name], marker=marker, label=name)
        if (trials := _trials(records, metric)) is not None:
            low, high = scale * trials.min(1), scale * trials.max(1)
            axes.fill_between(epochs, low, high, color=_COLORS[name], alpha=0.18, lw=0)


def _trials(records: Sequence[Record], metric: str) -> np.ndarray | None:
    """Return the values of each epoch's trials, if there are several."""
    each: list[Any] = [r.get("trials", {}).get(metric, ()) for r in records]
    if len(each[0]) < 2 or len({len(values) for values in each}) > 1:
        return None
    return np.array(each, float)
