"""Compare DKD with and without the ramp of its weight, as published.

10,000 images of Fashion-MNIST of 14x14 pixels, three seeds, 40 epochs; the ramp has 20,
and the published run 240. The networks are multilayer perceptrons, with which a study
of the whole ramp takes two CPU cores a few minutes. The students are trained with the
published learning rate, at which all of DKD end up predicting one class, and with a
fifth of it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments._runs import Job
from experiments.recipes._table import Data, Network, Pair, Row, Settings, Table
from experiments.studies import _tables
from experiments.studies._study import Evidence, Run, Study

NAME = "ramps"
_RATES = (0.05, 0.01)
_RAMPS = {
    "DKD, constant weight": ("--weight-ramp", "constant"),
    "DKD, ramp of 20 epochs (published)": (),
}
_ALONE = "student alone"
_DKD = Row("DKD", "dkd", {"ce": 1.0, "dkd": 1.0})
_TABLE = Table(
    name=NAME,
    title="Fashion-MNIST, 10,000 images of 14x14, test accuracy (%)",
    settings=Settings(
        Data("fashion_mnist", 10_000, (14, 14, 1), 10),
        trials=3,
        epochs=40,
        options=("--image-size", "14", "--subset", "10000", "--no-report"),
    ),
    pairs=(),
    rows=(_DKD,),
    baseline="dkd",
)


def jobs(root: Path) -> Sequence[Job]:
    """Return the runs: the teacher, and the students by learning rate and ramp."""
    folder, teacher = root / NAME, Network("mlp", width=512)
    pairs = {rate: Pair(NAME, teacher, Network("mlp", rate, 32)) for rate in _RATES}
    found = [_TABLE.teacher_job(pairs[_RATES[0]], root)._replace(cell="teacher")]
    for rate, pair in pairs.items():
        alone = _TABLE.student_job(pair, root)
        found.append(_moved(alone, name_of(rate, _ALONE), folder / f"{rate:g}-alone"))
        for number, (ramp, options) in enumerate(_RAMPS.items()):
            job = _TABLE.cell_job(pair, _DKD, root)
            out = folder / f"{rate:g}-dkd-{number}"
            found.append(_moved(job, name_of(rate, ramp), out, *options))
    return found


def _moved(job: Job, cell: str, out: Path, *options: str) -> Job:
    kept = job.arguments[: job.arguments.index("--out")]
    return Job(cell, out, (*kept, *options, "--out", str(out)))


def name_of(rate: float, what: str) -> str:
    """Return the cell name of a run."""
    return f"{what}, learning rate {rate:g}"


def table(evidence: Evidence) -> str:
    """Tabulate the accuracy after some epochs and after the last one."""
    head = ["", "learning rate", "epoch 1", "epoch 5", "epoch 20", "epoch 40"]
    rows = []
    for rate in _RATES:
        for what in (_ALONE, *_RAMPS):
            run = evidence.runs[name_of(rate, what)]
            accuracy = 100 * run.metrics["test/accuracy"].mean(1)
            after = [f"{accuracy[epoch - 1]:.2f}" for epoch in (1, 5, 20)]
            rows.append([what, f"{rate:g}", *after, _tables.percent(run)])
    return _tables.markdown(head, rows)


def draw(evidence: Evidence) -> Figure:
    """Draw the weight by epoch, and the accuracy for each learning rate."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, *others = figure.subplots(1, 1 + len(_RATES))
    colors = dict(zip((_ALONE, *_RAMPS), _COLORS, strict=True))
    for ramp in _RAMPS:
        run = evidence.runs[name_of(_RATES[0], ramp)]
        left.plot(*_by_epoch(weight(run)), color=colors[ramp])
    left.set(ylabel="weight of the dkd part", ylim=(0, 1.05))
    for axes, rate in zip(others, _RATES, strict=True):
        for what, color in colors.items():
            run = evidence.runs[name_of(rate, what)]
            accuracy = 100 * run.metrics["test/accuracy"].mean(1)
            axes.plot(*_by_epoch(accuracy), color=color, label=what)
        axes.set_ylabel("test accuracy (%), mean of three seeds")
        axes.set_title(f"learning rate {rate:g}", fontsize=10)
    others[-1].legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (left, *others):
        axes.set_xlabel("epoch")
        _tables.tidy(axes)
    return figure


_COLORS = (_tables.GRAY, _tables.ORANGE, _tables.BLUE)


def weight(run: Run) -> np.ndarray:
    """Return the weight of the dkd part by epoch; a constant one is no metric."""
    recorded = run.metrics.get("train/weight/dkd")
    return (
        np.ones(len(run.metrics["test/accuracy"]))
        if recorded is None
        else recorded[:, 0]
    )


def _by_epoch(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(1, len(values) + 1), values


STUDY = Study(
    name=NAME, jobs=jobs, metrics=("train/weight/dkd",), table=table, draw=draw
)
