"""Figures: charts for a page as SVG, and images of a comparison or a matrix."""

import contextlib
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxkd._files import write_whole
from jaxkd._text import printable
from jaxkd.reports._escape import for_figure, for_html
from jaxkd.reports._statistics import Calibration

Record = dict[str, Any]

# The palette of Okabe and Ito: distinct with any color vision, and in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Placeholder for the page's text color until the SVG is written.
_INK = "#010203"
_SVG_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # keep text as text: small, sharp, in the page's size
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{f"{part}.color": _INK for part in ("text", "xtick", "ytick", "grid")},
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "legend.frameon": False,
    "grid.alpha": 0.15,
}
# With more classes, numbers in the cells or names on the axes are not legible.
_MAX_NUMBERED_CLASSES = 12
_MAX_NAMED_CLASSES = 30
_MAX_CLASS_NAME, _MAX_TITLE = 12, 100  # characters


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """Draw names as they are: without LaTeX, and a box for what the font lacks."""
    with matplotlib.rc_context({"text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def save_png(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG file, which replaces a link and does not follow it."""
    write_whole(path, _png(figure))


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def draw_comparison(
    path: Path,
    curves: Mapping[str, np.ndarray],
    *,
    teacher_accuracy: float | None,
    title: str,
) -> None:
    """Draw test accuracy over the epochs: a line for each method.

    A band shows the standard deviation if a method has several seeds.

    Args:
        path: The PNG file to write.
        curves: Accuracies in ``[0, 1]`` of shape ``[seeds, epochs]``, by method.
        teacher_accuracy: Drawn as a horizontal line, if it is known.
        title: Title of the figure.
    """
    image = comparison_image(curves, teacher_accuracy=teacher_accuracy, title=title)
    write_whole(path, image)


@plain_text()
def comparison_image(
    curves: Mapping[str, np.ndarray], *, teacher_accuracy: float | None, title: str
) -> bytes:
    """Return the PNG file of :func:`draw_comparison`."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    _draw_methods(axes, curves, teacher_accuracy, "0.35")
    axes.set(title=for_figure(title, longest=_MAX_TITLE))
    remove_clutter(axes)
    axes.legend(loc="lower right", frameon=False)
    return _png(figure)


def comparison_chart(
    curves: Mapping[str, np.ndarray], *, teacher_accuracy: float | None, title: str
) -> str:
    """Draw the same as :func:`draw_comparison`, as SVG."""
    means = (f"{name} {values[:, -1].mean():.1%}" for name, values in curves.items())
    alt = f"test accuracy over the epochs, {title}; last: {', '.join(means)}"
    with svg_figure(alt, rows=len(curves)) as chart:
        _draw_methods(chart.axes, curves, teacher_accuracy, _INK)
        chart.axes.grid(axis="y")
        chart.legend(columns=1)
    return chart.svg


def _draw_methods(
    axes: Axes,
    curves: Mapping[str, np.ndarray],
    teacher_accuracy: float | None,
    ink: str,
) -> None:
    if teacher_accuracy is not None:
        axes.axhline(100 * teacher_accuracy, color=ink, linestyle="--", linewidth=1)
        axes.annotate(
            f"teacher {teacher_accuracy:.1%}",
            (1, 100 * teacher_accuracy),
            xytext=(4, -12),
            textcoords="offset points",
            color=ink,
        )
    styles = itertools.product(("-", "--", ":", "-."), COLORS)
    for (style, color), (method, values) in zip(styles, curves.items(), strict=False):
        percent = 100 * values
        mean = percent.mean(0)
        epochs = np.arange(1, values.shape[1] + 1)
        label = f"{for_figure(method)}: {mean[-1]:.1f}"
        if len(values) > 1:
            deviation = percent.std(0, ddof=1)
            label += f" ± {deviation[-1]:.1f}"
            low, high = mean - deviation, mean + deviation
            axes.fill_between(epochs, low, high, color=color, alpha=0.18, lw=0)
        axes.plot(epochs, mean, color=color, ls=style, lw=2, label=f"{label} %")
    # All methods start with the same steep rise; they differ near the top.
    low = min(
        100 * np.median(values[:, values.shape[1] // 4]) for values in curves.values()
    )
    axes.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(max(0.0, low - 5), 101))


def remove_clutter(axes: Axes) -> None:
    """Remove the upper and right spine; keep only faint horizontal grid lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)


def curves(
    history: Sequence[Record],
    lines: Mapping[str, str],
    *,
    label: str,
    scale: float = 1.0,
    log: bool = False,
) -> str:
    """Draw metrics over the epochs, as SVG.

    Args:
        history: Records of the run.
        lines: The metric of each line, by the name that the legend shows.
        label: Label of the vertical axis.
        scale: Factor on the values.
        log: Whether the axis is logarithmic, which leaves out values that are not
            positive.
    """
    epochs = [record["epoch"] for record in history]
    last = [f"{n} {history[-1].get(m, np.nan) * scale:.4g}" for n, m in lines.items()]
    alt = f"{label} of epochs {epochs[0]} to {epochs[-1]}; last: {', '.join(last)}"
    longest = max(map(len, lines))
    columns = 3 if longest < 12 else 2 if longest < 22 else 1
    rows = -(-len(lines) // columns) if len(lines) > 1 else 0
    with svg_figure(alt, rows=rows) as chart:
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
            axes.plot(epochs, values, label=for_figure(name), **look)
        if log and positive:
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        if len(lines) > 1:
            chart.legend(columns=columns)
    return chart.svg


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    """Draw a confusion matrix as SVG: classes in rows, predictions in columns.

    The shade of a cell is its share of the row.
    """
    hits, total = np.trace(matrix), matrix.sum()
    alt = f"confusion matrix: {hits:,} of {total:,} on the diagonal"
    with svg_figure(alt, size=(3.8, 3.7)) as chart:
        _draw_confusion(chart.axes, matrix, class_names, _INK)
    return chart.svg


@plain_text()
def confusion_image(matrix: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draw a confusion matrix as an image, uint8 of shape ``[height, width, 3]``."""
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
    axes.set(xlabel="prediction", ylabel="class")
    count = len(matrix)
    if count <= _MAX_NAMED_CLASSES:
        names = [for_figure(n, longest=_MAX_CLASS_NAME) for n in class_names]
        tilt = 90 if max(map(len, names)) > 2 else 0
        axes.set_xticks(range(count), names, rotation=tilt, fontsize=7)
        axes.set_yticks(range(count), names, fontsize=7)
        axes.tick_params(length=0)
    if count <= _MAX_NUMBERED_CLASSES:
        for (i, j), n in np.ndenumerate(matrix):
            if n:
                color = "white" if share[i, j] > 0.4 else ink
                cell = axes.text(j, i, str(n), color=color, fontsize=7)
                cell.set(ha="center", va="center")


def reliability(results: Mapping[str, Calibration], *, title: str = "") -> str:
    """Draw a reliability diagram as SVG.

    Dots show the accuracy at each confidence, and their size and, for up to two
    networks, bars the share of examples there.

    Args:
        results: Calibration of each network, by its name.
        title: What distinguishes the chart from others of its page.
    """
    labels = {
        name: f"{name}: calibration error {result.error:.3f}"
        for name, result in results.items()
    }
    alt = f"accuracy at each confidence, {title}; {'; '.join(labels.values())}"
    with svg_figure(alt, size=(3.8, 2.8), rows=len(results)) as chart:
        axes = chart.axes
        axes.plot([0, 1], [0, 1], color=_INK, lw=1, ls="--", alpha=0.5)
        for color, (name, result) in zip(itertools.cycle(COLORS), results.items()):
            share = result.counts / result.counts.sum()
            label = for_figure(labels[name])
            axes.plot(result.confidence, result.accuracy, color=color, lw=1, alpha=0.6)
            # The accuracy of a bin with few examples is noise: draw a small dot.
            filled = result.counts > 0
            sizes = 4 + 90 * np.sqrt(share[filled])
            places = result.confidence[filled], result.accuracy[filled]
            axes.scatter(*places, sizes, color=color, label=label, alpha=0.8)
            if len(results) <= 2:  # more bars hide one another
                edges, width = result.edges[:-1], np.diff(result.edges)
                axes.bar(edges, share, width, align="edge", color=color, alpha=0.18)
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(axis="y")
        chart.legend(columns=1)
    return chart.svg


class svg_figure:
    """Context manager: one axes in the page's style, which becomes SVG on exit.

    Args:
        alt: The text for those who do not see the chart; unique on its page.
        size: Width and height in inches, without a legend.
        rows: Number of rows of the legend.

    Attributes:
        axes: The axes to draw on.
        svg: The SVG element; set when the block ends.
    """

    axes: Axes
    svg: str

    def __init__(
        self, alt: str, *, size: tuple[float, float] = (3.8, 2.5), rows: int = 0
    ):
        # Names of clip paths must differ between the charts of a page.
        self._settings = {**_SVG_STYLE, "svg.hashsalt": printable(alt)}
        self._alt, self._size = alt, (size[0], size[1] + 0.16 * rows)

    def __enter__(self) -> "svg_figure":
        self._style = contextlib.ExitStack()
        self._style.enter_context(plain_text())
        self._style.enter_context(matplotlib.rc_context(self._settings))
        self._canvas = Figure(figsize=self._size, layout="constrained")
        self.axes = self._canvas.subplots()
        return self

    def legend(self, *, columns: int) -> None:
        """Add a legend below the axes, where it hides no line."""
        self._canvas.legend(
            loc="outside lower center", fontsize=8, ncols=columns, markerscale=0.6
        )

    def __exit__(self, *raised) -> None:
        try:
            if raised[0] is None:
                file = io.StringIO()
                self._canvas.savefig(
                    file, format="svg", transparent=True, metadata={"Date": None}
                )
                self.svg = _for_page(file.getvalue(), self._alt)
        finally:
            self._style.close()


def _for_page(document: str, alt: str) -> str:
    """Return the SVG element without size, ids and metadata, in the page's colors."""
    svg = document[document.index("<svg") :]
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    head += f' role="img" aria-label="{for_html(alt)}"'
    body = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    svg = f"{head}>{body}".replace(_INK, "currentColor").strip()
    return svg.replace(COLORS[0].lower(), "var(--blue)")  # lighter on a dark page
