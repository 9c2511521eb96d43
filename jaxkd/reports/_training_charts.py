"""Charts of a run's training: ``curves.png``, and those of its page."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxkd import runs
from jaxkd.reports import _figures
from jaxkd.reports._escape import for_figure

Record = dict[str, Any]

# Metrics of a training step that are neither the loss nor one of its parts.
_NOT_LOSSES = ("accuracy", "grad_norm", "learning_rate", "temperature")
# Endings of the metrics that lie between -1 and 1.
_SHARES = ("agreement", "purity", "cosine")


@_figures.plain_text()
def draw_history(path: Path, history: Sequence[Record]) -> None:
    """Draw a run's losses and accuracies over its epochs.

    A band shows the standard deviation if the run has several trials.

    Args:
        path: The PNG file to write.
        history: Records of the run.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    for part in _loss_parts(history[-1]):
        values = [r.get(f"train/{part}", np.nan) for r in history]
        losses.plot(epochs, values, label=for_figure(part))
    losses.set(xlabel="epoch", ylabel="training loss", yscale="log")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = {"train/accuracy": "train", runs.TEST_ACCURACY: "test"}
    if runs.EMA_TEST_ACCURACY in history[-1]:
        shown[runs.EMA_TEST_ACCURACY] = "test, averaged weights"
    if "validation/accuracy" in history[-1]:
        shown["validation/accuracy"] = "validation"
    for name, label in shown.items():
        values = np.array([100 * r.get(name, np.nan) for r in history])
        (line,) = accuracies.plot(epochs, values, label=label)
        if "trials" in history[-1]:
            each = [100 * np.array(r["trials"].get(name, np.nan)) for r in history]
            deviation = np.array([np.std(x, ddof=1) if x.ndim else x for x in each])
            low, high = values - deviation, values + deviation
            accuracies.fill_between(
                epochs, low, high, color=line.get_color(), alpha=0.18, lw=0
            )
    accuracies.set(xlabel="epoch", ylabel="accuracy (%)")
    accuracies.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Fixed places, because the search for the best ones is slow.
    for axes, place in ((losses, "upper right"), (accuracies, "lower right")):
        _figures.remove_clutter(axes)
        axes.legend(frameon=False, loc=place)
    _figures.save_png(path, figure)


def training_charts(history: Sequence[Record]) -> dict[str, str]:
    """Draw the charts of a run's page from its records, as SVG by title.

    A chart is left out if the run did not record its metrics.
    """
    names = list(dict.fromkeys(name for record in history for name in record))
    details = [n for n in _of_steps(names) if "/" in n]
    shares = [n for n in details if n.endswith(_SHARES)]
    weights = [n for n in details if n.startswith("weight/") or "/weight/" in n]
    temperatures = [n for n in _of_steps(names) if n.split("/")[-1] == "temperature"]
    others = (*shares, *weights, *temperatures)
    terms = [n for n in details if n not in others and not n.endswith("norm")]
    losses = {n: f"train/{n}" for n in _loss_parts(names)}
    accuracies = {"training": "train/accuracy", "test": runs.TEST_ACCURACY}
    if "test/loss" in names:
        losses["test cross-entropy"] = "test/loss"
    if runs.EMA_TEST_ACCURACY in names:
        accuracies["test, averaged weights"] = runs.EMA_TEST_ACCURACY
        losses["test cross-entropy, averaged weights"] = "test/ema_loss"
    for part, prefix in (("", ""), (", averaged weights", "ema_")):
        if (metric := f"test/{prefix}top5_accuracy") in names:
            accuracies[f"test, top-5{part}"] = metric
        if (metric := f"validation/{prefix}accuracy") in names:
            accuracies[f"validation{part}"] = metric
            losses[f"validation cross-entropy{part}"] = f"validation/{prefix}loss"
    charts = {
        "Accuracy": _figures.curves(
            history, accuracies, label="accuracy (%)", scale=100.0
        ),
        "Loss and its unweighted parts": _figures.curves(
            history, losses, label="loss (nats)", log=True
        ),
    }
    if terms:
        lines = {n: f"train/{n}" for n in terms}
        charts["Terms of the parts"] = _figures.curves(history, lines, label="mean")
    if shares:
        lines = {n: f"train/{n}" for n in shares}
        charts["Agreement of student, teacher and memory"] = _figures.curves(
            history, lines, label="share or cosine"
        )
    for scheduled, title in ((weights, "weight"), (temperatures, "temperature")):
        if scheduled:
            lines = {n: f"train/{n}" for n in scheduled}
            charts[f"Scheduled {title}s"] = _figures.curves(
                history, lines, label="mean of the epoch"
            )
    for metric, title in (
        ("train/grad_norm", "Gradient norm"),
        ("train/learning_rate", "Learning rate"),
    ):
        if metric in names:
            charts[title] = _figures.curves(
                history, {title: metric}, label="mean of the epoch", log=True
            )
    return charts


def _of_steps(names: Iterable[str]) -> list[str]:
    """Return the names of the metrics of training steps, without their prefix."""
    return [n.removeprefix("train/") for n in names if n.startswith("train/")]


def _loss_parts(names: Iterable[str]) -> list[str]:
    """Return the names of the loss and its parts, without their prefix."""
    return [n for n in _of_steps(names) if "/" not in n and n not in _NOT_LOSSES]
