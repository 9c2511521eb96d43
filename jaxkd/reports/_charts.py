"""Charts of a report: SVG that takes the page's colours, in the light and the dark."""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxkd.reports._figures import COLORS
from jaxkd.reports._statistics import Calibration

Record = dict[str, Any]

# Stands for the colour of the page's text until the SVG is written.
_INK = "#010203"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, sharp, and in the page's size
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{f"{part}.color": _INK for part in ("text", "xtick", "ytick", "grid")},
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "legend.frameon": False,
    "grid.alpha": 0.15,
}
# Classes up to which a cell's number is legible.
_NUMBERED_CLASSES = 12
_NAMED_CLASSES = 30


def curves(
    history: Sequence[Record],
    lines: Mapping[str, str],
    *,
    label: str,
    scale: float = 1.0,
    log: bool = False,
) -> str:
    """Metrics over the epochs.

    Args:
        history: The run's records.
        lines: What a line is called, and the metric it shows.
        label: What the vertical axis measures.
        scale: Multiplies the values.
        log: Whether the axis is logarithmic. Values that are not positive are left out.
    """
    epochs = [record["epoch"] for record in history]
    with _figure(label) as chart:
        axes = chart.axes
        positive = False
        looks = itertools.product(("-", "--", ":"), COLORS)
        for (dash, color), (name, metric) in zip(looks, lines.items(), strict=False):
            values = np.array([r.get(metric, np.nan) for r in history], float) * scale
            values[~np.isfinite(values)] = np.nan
            if log:
                values[~(values > 0)] = np.nan
            positive |= bool(np.any(values > 0))
            marker = "." if len(epochs) < 40 else ""
            look = {"color": color, "ls": dash, "marker": marker, "lw": 1.4}
            axes.plot(epochs, values, label=name, **look)
        if log and positive:
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        if len(lines) > 1:
            chart.legend(columns=3 if max(map(len, lines)) < 16 else 2)
    return chart.svg


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """Classes in rows, what they are taken for in columns; rows shaded by share."""
    with _figure("confusion", size=(4.4, 4.2)) as chart:
        _draw_confusion(chart.axes, matrix, class_names, _INK)
    return chart.svg


def confusion_picture(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """The same as an image, uint8 of shape [height, width, 3]."""
    figure = Figure(figsize=(5.5, 5.2), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    _draw_confusion(figure.subplots(), matrix, class_names, "black")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _draw_confusion(
    axes: Axes, matrix: np.ndarray, class_names: Sequence[str], ink: str
) -> None:
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shade = LinearSegmentedColormap.from_list(
        "share", [(0.0, 0.447, 0.698, a) for a in (0.0, 0.35, 0.6, 0.8, 1.0)]
    )
    axes.spines[:].set_visible(False)
    axes.imshow(share, cmap=shade, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted", ylabel="class")
    count = len(matrix)
    if count <= _NAMED_CLASSES:
        names = [n if len(n) <= 12 else f"{n[:11]}…" for n in class_names]
        tilt = 90 if max(map(len, names)) > 2 else 0
        axes.set_xticks(range(count), names, rotation=tilt, fontsize=7)
        axes.set_yticks(range(count), names, fontsize=7)
        axes.tick_params(length=0)
    if count <= _NUMBERED_CLASSES:
        for (i, j), n in np.ndenumerate(matrix):
            if n:
                color = "white" if share[i, j] > 0.4 else ink
                cell = axes.text(j, i, str(n), color=color, fontsize=7)
                cell.set(ha="center", va="center")


def reliability(results: Mapping[str, Calibration]) -> str:
    """Accuracy over confidence, and the share of examples at each confidence."""
    with _figure("reliability", size=(4.4, 3.4)) as chart:
        axes = chart.axes
        axes.plot([0, 1], [0, 1], color=_INK, lw=1, ls="--", alpha=0.5)
        for color, (name, result) in zip(COLORS, results.items(), strict=False):
            share = result.counts / result.counts.sum()
            label = f"{name}: calibration error {result.error:.3f}"
            axes.plot(result.confidence, result.accuracy, color=color, lw=1, alpha=0.6)
            # Few examples make a wild bin: a small dot.
            seen = result.counts > 0
            sizes = 4 + 90 * np.sqrt(share[seen])
            places = result.confidence[seen], result.accuracy[seen]
            axes.scatter(*places, sizes, color=color, label=label, alpha=0.8)
            width = np.diff(result.edges)
            axes.bar(
                result.edges[:-1], share, width, align="edge", color=color, alpha=0.18
            )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(axis="y")
        chart.legend(columns=1)
    return chart.svg


class _figure:
    """One axes, drawn in the report's style; its SVG when the block is left."""

    axes: Axes
    svg: str

    def __init__(self, name: str, size: tuple[float, float] = (4.4, 2.9)):
        # Names of clip paths must differ between the charts of a page.
        self._style = matplotlib.rc_context({**_STYLE, "svg.hashsalt": name})
        self._size = size

    def __enter__(self) -> "_figure":
        self._style.__enter__()
        self._canvas = Figure(figsize=self._size, layout="constrained")
        self.axes = self._canvas.subplots()
        return self

    def legend(self, *, columns: int) -> None:
        """Explains the lines below the axes, where it hides none."""
        self._canvas.legend(
            loc="outside lower center", fontsize=7.5, ncols=columns, markerscale=0.6
        )

    def __exit__(self, *raised) -> None:
        try:
            if raised[0] is None:
                file = io.StringIO()
                self._canvas.savefig(
                    file, format="svg", transparent=True, metadata={"Date": None}
                )
                self.svg = _for_the_page(file.getvalue())
        finally:
            self._style.__exit__(*raised)


def _for_the_page(document: str) -> str:
    """The SVG element: as wide as its place, in the page's colour, without names."""
    svg = document[document.index("<svg") :]
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    body = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    return f"{head}>{body}".replace(_INK, "currentColor").strip()
