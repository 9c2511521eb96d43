"""Vary the settings of HKD one at a time, on Fashion-MNIST.

The networks, the teacher and the schedule are those of
``experiments/recipes/fashion_mnist.py``, with 10,000 training images and three seeds.
HKD is used alone (no KD), and every setting but one is as published. 10,000 images have
9,000 negatives of other classes. All of them are used where the published number is
16,384.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments._runs import Job
from experiments.studies import _tables, _teaching
from experiments.studies._study import Evidence, Run, Study

NAME = "hkd_ablations"
PUBLISHED = "published"
STUDENT, KD = "student", "kd"
# The values of each setting, in order, with their options; no options if published.
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "weight": {
        "0.1": ("--weights", "ce", "1", "hkd", "0.1"),
        "0.3": ("--weights", "ce", "1", "hkd", "0.3"),
        "1": ("--weights", "ce", "1", "hkd", "1"),
        "3": (),
    },
    "neighbors k": {
        "2": ("--hkd.neighbors", "2"),
        "4": ("--hkd.neighbors", "4"),
        "8": (),
        "16": ("--hkd.neighbors", "16"),
        "32": ("--hkd.neighbors", "32"),
    },
    "hops": {"1": (), "2": ("--hkd.hops", "2"), "3": ("--hkd.hops", "3")},
    "graph from": {
        "predictions": (),
        "embeddings": ("--hkd.graph-from", "embeddings"),
    },
    "terms": {
        "all four": (),
        "plain alone": ("--hkd.graph-weight", "0"),
        "graph alone": ("--hkd.embedding-weight", "0"),
    },
    "negatives from": {"own": (), "cross": ("--hkd.negatives-from", "cross")},
    "negatives K": {
        "256": ("--hkd.num-negatives", "256"),
        "1024": ("--hkd.num-negatives", "1024"),
        "4096": ("--hkd.num-negatives", "4096"),
        "9000": (),
    },
    "K = 1024": {
        "shared": ("--hkd.num-negatives", "1024", "--hkd.negatives", "shared"),
        "all": ("--hkd.num-negatives", "1024", "--hkd.negatives", "all"),
    },
    "bank momentum": {
        "0": ("--hkd.bank-momentum", "0"),
        "0.5": ("--hkd.bank-momentum", "0.5"),
        "0.9": (),
        "0.99": ("--hkd.bank-momentum", "0.99"),
    },
    "dimension": {
        "32": ("--hkd.dim", "32"),
        "64": ("--hkd.dim", "64"),
        "128": (),
        "256": ("--hkd.dim", "256"),
    },
}


def name_of(setting: str, value: str) -> str:
    """Return the cell name of a variant's run."""
    return f"{setting}: {value}" if VARIANTS[setting][value] else PUBLISHED


def jobs(root: Path) -> Sequence[Job]:
    """Return the runs: teacher, students alone, with KD and with each HKD variant."""
    hkd = _teaching.row("hkd")
    place = lambda cell, row, *options: _teaching.taught(
        root, NAME, cell, row, *options
    )
    return [
        _teaching.teacher(root),
        _teaching.student(root, NAME),
        place(KD, _teaching.row("kd")),
        place(PUBLISHED, hkd),
        *(
            place(name_of(setting, value), hkd, *options)
            for setting, values in VARIANTS.items()
            for value, options in values.items()
            if options
        ),
    ]


def table(evidence: Evidence) -> str:
    """Tabulate accuracy, and similarity of the graphs and embeddings at the end."""
    runs = evidence.runs
    rows = [["student alone", "", _tables.percent(runs[STUDENT]), "", ""]]
    rows.append(["KD", "", _tables.percent(runs[KD]), "", ""])
    rows.append(["HKD", "as published", *_numbers(runs[PUBLISHED])])
    rows += [
        [setting, value, *_numbers(runs[name_of(setting, value)])]
        for setting, values in VARIANTS.items()
        for value, options in values.items()
        if options
    ]
    head = ["", "", "test accuracy (%)", "neighbor agreement", "embedding cosine"]
    return _tables.markdown(head, rows)


def _numbers(run: Run) -> list[str]:
    names = ("train/hkd/neighbor_agreement", "train/hkd/embedding_cosine")
    return [
        _tables.percent(run),
        *(f"{run.last(x).mean():.3f}" if x in run.metrics else "" for x in names),
    ]


def draw(evidence: Evidence) -> Figure:
    """Draw one group of columns per setting; each has the published value."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    axes = figure.subplots()
    runs = evidence.runs
    base = 100 * runs[PUBLISHED].last()
    low, high = base.mean() - base.std(ddof=1), base.mean() + base.std(ddof=1)
    axes.axhspan(low, high, color=_tables.BLUE, alpha=0.1, lw=0)
    levels = {"alone": STUDENT, "KD": KD}
    for label, cell in levels.items():
        level = 100 * runs[cell].last().mean()
        axes.axhline(level, color=_tables.GRAY, lw=0.9, ls="--", zorder=0)
        axes.text(-1.3, level, label, va="bottom", fontsize=8, color=_tables.GRAY)
    at, ticks, names = 0.0, [], []
    for setting, values in VARIANTS.items():
        first = at
        for value, options in values.items():
            color = _tables.ORANGE if options else _tables.BLUE
            _tables.draw_trials(axes, at, runs[name_of(setting, value)], color)
            ticks.append(at)
            names.append(value)
            at += 1
        middle = (first + at - 1) / 2
        axes.text(
            middle,
            1.0,
            setting,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
        )
        at += 1
    axes.set_xticks(ticks, names, rotation=45, ha="right", fontsize=8)
    axes.set_xlim(-1.4, at - 1.4)
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(
        "HKD, one setting at a time (blue: as published); every seed, mean ± std",
        fontsize=10,
        pad=18,
    )
    _tables.tidy(axes)
    return figure


STUDY = Study(
    name=NAME,
    jobs=jobs,
    metrics=(
        "train/hkd/neighbor_agreement",
        "train/hkd/embedding_cosine",
        "train/hkd/student_bank_cosine",
    ),
    table=table,
    draw=draw,
)
