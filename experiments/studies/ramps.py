"""Compare DKD with and without the ramp of its weight, as published.

10,000 images of Fashion-MNIST of 14x14 pixels, three seeds. The networks are multilayer
perceptrons, with which a study of the whole ramp takes two CPU cores a few minutes. The
ramp has 20 epochs and the run 40: the published run has 240.
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
_PAIR = Pair("MLP", Network("mlp", width=512), Network("mlp", width=32))
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
    pairs=(_PAIR,),
    rows=(_DKD,),
    baseline="dkd",
)
_RAMPS = {
    "no ramp": ("--weight-ramp", "constant"),
    "linear, 20 epochs (published)": (),
    "cosine, 20 epochs": ("--weight-ramp", "cosine"),
    "linear, 40 epochs": ("--weight-warmup", "dkd", "40"),
}


def jobs(root: Path) -> Sequence[Job]:
    """Return the runs: teacher, student alone, and DKD by ramp."""
    found = [
        _TABLE.teacher_job(_PAIR, root)._replace(cell="teacher"),
        _TABLE.student_job(_PAIR, root)._replace(cell="student"),
    ]
    for number, (name, options) in enumerate(_RAMPS.items()):
        job = _TABLE.cell_job(_PAIR, _DKD, root)
        out = job.out.with_name(f"dkd-{number}")
        kept = job.arguments[: job.arguments.index("--out")]
        found.append(Job(name, out, (*kept, *options, "--out", str(out))))
    return found


def table(evidence: Evidence) -> str:
    """Tabulate the accuracy after the last epoch, and early in the run."""
    rows = []
    for name, run in evidence.runs.items():
        shown = "student alone" if name == "student" else name
        after = [
            f"{100 * run.metrics['test/accuracy'][e - 1].mean():.2f}"
            for e in (1, 5, 20)
        ]
        rows.append([shown, *after, _tables.percent(run)])
    head = ["DKD's weight", "epoch 1", "epoch 5", "epoch 20", "epoch 40"]
    return _tables.markdown(head, rows)


def draw(evidence: Evidence) -> Figure:
    """Draw the weight on the left, and the accuracy on the right, by epoch."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in _RAMPS:
        run = evidence.runs[name]
        (line,) = left.plot(*_by_epoch(weight(run)), label=name)
        right.plot(
            *_by_epoch(100 * run.metrics["test/accuracy"].mean(1)),
            color=line.get_color(),
        )
    alone = 100 * evidence.runs["student"].metrics["test/accuracy"].mean(1)
    right.plot(*_by_epoch(alone), color=_tables.GRAY, label="student alone")
    left.set(xlabel="epoch", ylabel="weight of the dkd part", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="test accuracy (%), mean of three seeds")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        _tables.tidy(axes)
    return figure


def weight(run: Run) -> np.ndarray:
    """Return the weight of the dkd part by epoch; a constant one is no metric."""
    epochs = len(run.metrics["test/accuracy"])
    recorded = run.metrics.get("train/weight/dkd")
    return np.ones(epochs) if recorded is None else recorded.mean(1)


def _by_epoch(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(1, len(values) + 1), values


STUDY = Study(
    name=NAME, jobs=jobs, metrics=("train/weight/dkd",), table=table, draw=draw
)
