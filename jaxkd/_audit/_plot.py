"""The plot of an audit. Importing this module loads matplotlib."""

import numpy as np
from matplotlib.figure import Figure

from jaxkd._audit._report import AuditReport
from jaxkd.reports._figures import COLORS

_FLOOR = 1e-9


def draw(report: AuditReport) -> Figure:
    """Draw the errors of a report over the temperature, or the size of the inputs."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    (label, x), *curves = report.series.items()
    for (name, y), color, marker in zip(curves, COLORS, "os", strict=False):
        drawn = np.maximum(np.asarray(y, np.float64), _FLOOR)
        axes.loglog(x, drawn, marker + "-", color=color, markersize=4, label=name)
    axes.axhline(1e-2, color="0.5", linewidth=0.8, linestyle="--")
    axes.text(x[0], 1.2e-2, "1%", color="0.35", fontsize=9, va="bottom")
    axes.set_xlabel(label)
    axes.set_ylabel("largest relative error in float32")
    axes.set_title(report.loss, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.7)
    axes.legend(frameon=False)
    return figure
