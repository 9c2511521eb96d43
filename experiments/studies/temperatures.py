"""Compare distillation from T = 1 to infinity with logits matching, in training.

The networks, the teacher and the schedule are those of
``experiments/recipes/fashion_mnist.py``, with 10,000 training images, three seeds and
no labels: a student learns only from the teacher's logits. Each temperature is run
with SGD and Adam, from classifiers as drawn and from classifiers whose class means are
zero (``--equal-means``).
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._runs import Job
from experiments.recipes._table import Row
from experiments.studies import _tables, _teaching
from experiments.studies._study import Evidence, Run, Study

NAME = "temperatures"
TEMPERATURES = ("1", "4", "20", "100", "10000", "inf")
MATCHING = "matching"
OPTIMIZERS = {
    "SGD": (),
    "Adam": ("--optimizer", "adam", "--learning-rate", "0.001"),
}
_OF_SGD = ("--momentum", "--weight-decay")
STARTS = {"as drawn": (), "equal means": ("--equal-means",)}
_KD = Row("KD", "kd", {"ce": 0.0, "kd": 1.0})
_LM = Row("LM", "logit-matching", {"lm": 1.0})


def jobs(root: Path) -> Sequence[Job]:
    """Return the runs: teacher, and students by optimizer, start and temperature."""
    found = [_teaching.teacher(root)]
    for optimizer, start in itertools.product(OPTIMIZERS, STARTS):
        options = (*OPTIMIZERS[optimizer], *STARTS[start])
        for value in (*TEMPERATURES, MATCHING):
            kd = value != MATCHING
            job = _teaching.taught(
                root,
                NAME,
                name_of(optimizer, start, value),
                _KD if kd else _LM,
                *(("--temperature", value) if kd else ()),
                *options,
                instead_of=_OF_SGD if OPTIMIZERS[optimizer] else (),
            )
            found.append(job)
    return found


def name_of(optimizer: str, start: str, value: str) -> str:
    """Return the cell name of a run."""
    return f"{optimizer}, {start}, {value}"


def table(evidence: Evidence) -> str:
    """Tabulate accuracy and agreement with the teacher by temperature."""
    columns = [(by, start) for by in OPTIMIZERS for start in STARTS]
    head = ["T", *(f"{by}, {start}" for by, start in columns)]
    rows = []
    for value in (*TEMPERATURES, MATCHING):
        runs = [evidence.runs[name_of(*column, value)] for column in columns]
        rows.append([_LABELS.get(value, value), *map(_cell, runs)])
    return _tables.markdown(head, rows)


def _cell(run: Run) -> str:
    return f"{_tables.percent(run)}; {100 * _agreement(run).mean():.1f}"


def _agreement(run: Run) -> np.ndarray:
    return run.last(_metric(run, "agreement"))


def gap(run: Run) -> np.ndarray:
    """Compute the RMS difference of the mean logits, ``[epochs, trials]``."""
    return np.sqrt(2 * run.metrics[_metric(run, "mean_gap")])


def _metric(run: Run, name: str) -> str:
    (found,) = (key for key in run.metrics if key.endswith(f"/{name}"))
    return found


def draw(evidence: Evidence) -> Figure:
    """Draw accuracy over temperature above, and the mean logits over time below."""
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    panels = figure.subplots(2, len(OPTIMIZERS), sharey="row")
    for (above, below), optimizer in zip(panels.T, OPTIMIZERS, strict=True):
        _draw_accuracy(above, evidence, optimizer)
        _draw_means(below, evidence, optimizer)
    panels[0, 0].set_ylabel("test accuracy (%)")
    panels[1, 0].set_ylabel("gap of the mean logits (RMS)")
    return figure


def _draw_accuracy(axes: Axes, evidence: Evidence, optimizer: str) -> None:
    values = (*TEMPERATURES, MATCHING)
    for shift, start in zip((-0.1, 0.1), STARTS, strict=True):
        runs = [evidence.runs[name_of(optimizer, start, value)] for value in values]
        each = 100 * np.stack([run.last() for run in runs])
        axes.errorbar(
            np.arange(len(values)) + shift,
            each.mean(1),
            each.std(1, ddof=1),
            fmt="o",
            color=_COLORS[start],
            label=start,
            capsize=2,
        )
    labels = [_LABELS.get(value, value).replace(" ", "\n") for value in values]
    axes.set_xticks(range(len(values)), labels)
    axes.set_xlabel("temperature")
    title = f"{optimizer}: distillation by temperature, and logits matching"
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    _tables.tidy(axes)


def _draw_means(axes: Axes, evidence: Evidence, optimizer: str) -> None:
    for start in STARTS:
        for value, style in (("inf", "-"), (MATCHING, "--")):
            found = gap(evidence.runs[name_of(optimizer, start, value)])
            epochs = np.arange(1, len(found) + 1)
            label = f"{_LABELS[value]}, {start}"
            mean = found.mean(1)
            axes.plot(epochs, mean, style, color=_COLORS[start], label=label)
    axes.set(yscale="log", xlabel="epoch")
    axes.set_title(f"{optimizer}: distance between the mean logits", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    _tables.tidy(axes)


_LABELS = {"10000": "10⁴", "inf": "∞", MATCHING: "logits matching"}
_COLORS = {"as drawn": _tables.ORANGE, "equal means": _tables.BLUE}

STUDY = Study(
    name=NAME,
    jobs=jobs,
    metrics=(
        "train/kd/agreement",
        "train/kd/mean_gap",
        "train/lm/agreement",
        "train/lm/mean_gap",
    ),
    table=table,
    draw=draw,
)
