"""The figure of ``jaxkd temperature``."""

from pathlib import Path

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.figure import Figure

from jaxkd.reports._figures import COLORS, plain_text, remove_clutter, save_png
from jaxkd.reports._temperatures import (
    HighTemperatures,
    limit_bounds,
    limit_ratios,
)

_LOWEST, _COUNT = 0.5, 40  # temperatures
_SHOWN = (1 / 300, 30)  # ratios


@plain_text()
def draw_limit_ratios(
    path: Path,
    student_logits: Float[ArrayLike, "images classes"],
    teacher_logits: Float[ArrayLike, "images classes"],
    found: HighTemperatures,
) -> None:
    """Draw the loss over its limit by temperature, inside the bounds of theorem T3.

    The figure shows the mean loss, the middle 90 % of the images, the bounds for the
    largest range of logits, and two of the temperatures that were found.

    Args:
        path: The PNG file to write.
        student_logits: Finite logits of the student.
        teacher_logits: Finite logits of the teacher.
        found: Result of :func:`high_enough_temperatures` for these logits.
    """
    temperatures = np.geomspace(_LOWEST, 2 * max(found.guaranteed.max(), 1.0), _COUNT)
    ratios = [limit_ratios(student_logits, teacher_logits, t) for t in temperatures]
    classes = np.shape(teacher_logits)[-1]
    largest = found.logit_range.max()
    bounds = [limit_bounds(largest, t, num_classes=classes) for t in temperatures]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        temperatures,
        *np.transpose(bounds),
        color="0.88",
        lw=0,
        label=f"bounds for R = {largest:.3g}, C = {classes}",
    )
    axes.fill_between(
        temperatures,
        *np.percentile(ratios, (5, 95), axis=1),
        color=COLORS[0],
        alpha=0.3,
        lw=0,
        label="5 % to 95 % of the images",
    )
    means = [found.mean_ratio(each) for each in ratios]
    axes.plot(temperatures, means, color=COLORS[0], lw=2, label="mean loss")
    axes.axhline(1, color="0.35", ls="--", lw=1)
    marks = {
        "mean loss, measured": (found.measured_mean, "-"),
        "all images, guaranteed": (found.guaranteed.max(), ":"),
    }
    for name, (temperature, style) in marks.items():
        if temperature > _LOWEST:
            label = f"from T = {temperature:,.0f}: {name}"
            axes.axvline(temperature, color=COLORS[1], ls=style, lw=1.5, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        ylim=_SHOWN,
        xlabel="temperature T",
        ylabel="loss over its limit",
    )
    remove_clutter(axes)
    axes.legend(loc="lower right", framealpha=1, edgecolor="none")
    save_png(path, figure)
