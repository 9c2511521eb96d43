"""The pictures that the command line draws."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Record = dict[str, Any]

# Okabe and Ito's palette: told apart with any colour vision, and in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw_history(path: Path, history: Sequence[Record]) -> None:
    """Draws a run's losses and accuracies over its epochs."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    for name in history[-1]:
        part = name.removeprefix("train/")
        if part != name and "/" not in part and part not in ("accuracy", "grad_norm"):
            losses.plot(epochs, [r.get(name, np.nan) for r in history], label=part)
    losses.set(xlabel="epoch", ylabel="training loss", yscale="log")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = {"train/accuracy": "train", "test/accuracy": "test"}
    if "test/ema_accuracy" in history[-1]:
        shown["test/ema_accuracy"] = "test, averaged weights"
    for name, label in shown.items():
        values = np.array([100 * r.get(name, np.nan) for r in history])
        (line,) = accuracies.plot(epochs, values, label=label)
        if "trials" in history[-1]:  # one standard deviation on either side
            each = [100 * np.array(r["trials"].get(name, np.nan)) for r in history]
            deviation = np.array([np.std(x, ddof=1) if x.ndim else x for x in each])
            low, high = values - deviation, values + deviation
            accuracies.fill_between(
                epochs, low, high, color=line.get_color(), alpha=0.18, lw=0
            )
    accuracies.set(xlabel="epoch", ylabel="accuracy (%)")
    accuracies.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Fixed places: to look for the best ones takes long.
    for axes, place in ((losses, "upper right"), (accuracies, "lower right")):
        _tidy(axes)
        axes.legend(frameon=False, loc=place)
    figure.savefig(path, dpi=150)


def draw_comparison(
    path: Path,
    curves: Mapping[str, np.ndarray],
    *,
    teacher_accuracy: float | None,
    title: str,
) -> None:
    """Draws test accuracy over epochs, one line and band (± std) per method.

    Args:
        path: The PNG to write.
        curves: Accuracies in ``[0, 1]`` of shape ``[seeds, epochs]`` by method.
        teacher_accuracy: Drawn as a level, if it is known.
        title: Above the picture.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    if teacher_accuracy is not None:
        axes.axhline(100 * teacher_accuracy, color="0.35", linestyle="--", linewidth=1)
        axes.annotate(
            f"teacher {teacher_accuracy:.1%}",
            (1, 100 * teacher_accuracy),
            xytext=(4, -12),
            textcoords="offset points",
            color="0.35",
        )
    styles = itertools.product(("-", "--", ":", "-."), COLORS)
    for (style, color), (method, values) in zip(styles, curves.items(), strict=False):
        percent = 100 * values
        mean, deviation = percent.mean(0), percent.std(0, ddof=min(1, len(values) - 1))
        epochs = np.arange(1, values.shape[1] + 1)
        label = f"{method}: {mean[-1]:.1f} ± {deviation[-1]:.1f} %"
        axes.plot(epochs, mean, color=color, ls=style, lw=2, label=label)
        axes.fill_between(
            epochs, mean - deviation, mean + deviation, color=color, alpha=0.18, lw=0
        )
    # The start is the same steep climb for all; the differences are at the top.
    low = min(
        100 * np.median(values[:, values.shape[1] // 4]) for values in curves.values()
    )
    axes.set(
        xlabel="epoch",
        ylabel="test accuracy (%)",
        title=title,
        ylim=(max(0.0, low - 5), 101),
    )
    _tidy(axes)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=150)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
