"""Share the options and the formatting of the studies' tables and figures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments._numbers import mean_and_deviation
from experiments.studies._study import Run
from jaxkd.reports._figures import COLORS

BLUE, ORANGE = COLORS[:2]
GRAY = "0.45"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that show the stored numbers."""
    parser.add_argument("--table", action="store_true", help="print the stored numbers")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="FOLDER",
        help="draw the stored numbers into this folder",
    )


def percent(run: Run) -> str:
    """Format the mean and standard deviation of the accuracy over the trials."""
    return mean_and_deviation(100 * run.last())


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw_trials(axes: Axes, at: float, run: Run, color: str) -> None:
    """Draw each trial's accuracy as a dot, over their mean and standard deviation."""
    values = 100 * run.last()
    axes.errorbar(
        at,
        values.mean(),
        values.std(ddof=1),
        fmt="_",
        color=color,
        markersize=13,
        capsize=0,
        linewidth=1.2,
    )
    axes.plot(np.full(len(values), at), values, "o", color=color, ms=3.5, alpha=0.55)


def tidy(axes: Axes) -> None:
    """Remove the frame and draw light grid lines under the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
