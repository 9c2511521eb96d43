"""Compare twelve methods on Fashion-MNIST: the runs of the recipe ``fashion_mnist``."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments._runs import Job
from experiments.studies import _tables, _teaching
from experiments.studies._study import Evidence, Run, Study

_TABLE = _teaching.TABLE
_HOLISTIC = ("HKD", "HKD+KD")


def jobs(root: Path) -> Sequence[Job]:
    """Return the table's runs, named after its rows."""
    pair = f"{_teaching.PAIR.name}, "
    found = _TABLE.jobs(root)
    return [job._replace(cell=job.cell.removeprefix(pair)) for job in found]


def table(evidence: Evidence) -> str:
    """Tabulate the methods, sorted by accuracy."""
    (teacher,) = 100 * evidence.runs["teacher"].last()
    alone = evidence.runs["student"]
    rows = [["teacher", f"{teacher:.2f}", ""]]
    for name, run in _ranked(evidence):
        gain = 100 * (run.last().mean() - alone.last().mean())
        shown = "student alone" if name == "student" else name
        rows.append([shown, _tables.percent(run), f"{gain:+.2f}" if gain else ""])
    return _tables.markdown(["", "test accuracy (%)", "over the student alone"], rows)


def draw(evidence: Evidence) -> Figure:
    """Draw every trial of every method."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots()
    ranked = list(reversed(_ranked(evidence)))
    for place, (name, run) in enumerate(ranked):
        color = _tables.GRAY if name == "student" else _tables.BLUE
        _tables.draw_trials(
            axes, place, run, _tables.ORANGE if name in _HOLISTIC else color
        )
    alone = 100 * evidence.runs["student"].last().mean()
    axes.axhline(alone, color=_tables.GRAY, linewidth=0.8, linestyle="--", zorder=0)
    names = ["alone" if name == "student" else name for name, _ in ranked]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    (teacher,) = 100 * evidence.runs["teacher"].last()
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(
        "Fashion-MNIST, 20,000 images of 14x14: five students of each method, "
        f"mean ± std\n(the teacher has {teacher:.1f} %)",
        fontsize=10,
    )
    _tables.tidy(axes)
    return figure


def _ranked(evidence: Evidence) -> list[tuple[str, Run]]:
    found = [item for item in evidence.runs.items() if item[0] != "teacher"]
    return sorted(found, key=lambda item: -item[1].last().mean())


STUDY = Study(
    name=_TABLE.name,
    jobs=jobs,
    metrics=(
        "train/kd/agreement",
        "train/hkd/neighbor_agreement",
        "train/hkd/embedding_cosine",
        "train/hkd/student_bank_cosine",
    ),
    table=table,
    draw=draw,
)
