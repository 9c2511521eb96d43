"""Compute the measured column with ``jaxkd report``."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import _runs
from experiments.recipes._table import Pair, Published, Row, Table

NOBODY, UNKNOWN, NOT_MADE = "-", "·", ""
LEGEND = (
    f"Published/measured; {NOBODY} not run; {UNKNOWN} not transcribed; ARI: "
    "average relative improvement of {baseline} in %."
)


class Measured(NamedTuple):
    """Result of a cell.

    Attributes:
        accuracy: Accuracy after the last epoch, in percent, over the seeds.
        teacher: Accuracy of the teacher, in percent; None if unknown.
        improvement: ARI of the baseline over this method, in percent; None without one.
    """

    accuracy: Published
    teacher: float | None
    improvement: float | None


Results = Mapping[tuple[Pair, str], Measured]


def measure(
    table: Table, root: Path, report: Callable[[Sequence[str]], None]
) -> Results:
    """Compare a table's finished runs with ``jaxkd report``, and read its CSV.

    Args:
        table: The table.
        root: Folder of the runs; the report is written next to them.
        report: Runs a command of ``jaxkd``, given its arguments.
    """
    cells = [(pair, method, jobs[-1]) for pair, method, jobs in table.cells(root)]
    methods = {method for _, method, job in cells if _runs.finished(job)}
    if methods <= {"teacher", "student"}:
        return {}  # a report needs students with a teacher
    folders = dict.fromkeys(
        _runs.done(job for _, method, job in cells if method != "teacher")
    )
    baseline = ["--baseline", table.baseline] if table.baseline in methods else []
    out = root / f"report-{table.name}"
    report(["report", *map(str, folders), "--out", str(out), *baseline])
    with (out / "report.csv").open(newline="") as file:
        records = {
            (record["teacher"], record["student"], record["method"]): record
            for record in csv.DictReader(file)
        }
    found = {}
    for pair, method, _ in cells:
        key = (pair.teacher.label, pair.student.label, method)
        if key in records:
            found[pair, method] = _read(records[key])
    return found


def _read(record: Mapping[str, str]) -> Measured:
    percent = lambda name: 100 * float(record[name]) if record[name] else None
    mean = percent("last_mean")
    assert mean is not None
    several = " " in record["seeds"]
    return Measured(
        Published(mean, percent("last_std") if several else None),
        percent("teacher_accuracy"),
        percent("ari"),
    )


def text_table(table: Table, results: Results) -> str:
    """Format published and measured numbers side by side."""
    lines = [["", *(pair.name for pair in table.pairs), "ARI"]]
    lines.append(["teacher", *_teachers(table, results), ""])
    lines.append(["student", *_cells(table, results, "student", table.students), ""])
    for row in table.rows:
        cells = _cells(table, results, row.method, row.published, row.without)
        lines.append([row.name, *cells, _improvement(table, results, row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in aligned)


def legend(table: Table) -> str:
    """Explain the marks of the table."""
    return LEGEND.format(baseline=table.baseline)


def _cells(
    table: Table,
    results: Results,
    method: str,
    published: tuple[Published, ...],
    without: frozenset[str] = frozenset(),
) -> list[str]:
    cells = []
    for number, pair in enumerate(table.pairs):
        if pair.name in without:
            cells.append(NOT_MADE)
            continue
        printed = str(published[number]) if published else UNKNOWN
        measured = results.get((pair, method))
        ours = NOBODY if measured is None else str(measured.accuracy)
        cells.append(f"{printed}/{ours}")
    return cells


def _teachers(table: Table, results: Results) -> list[str]:
    cells = []
    for number, pair in enumerate(table.pairs):
        printed = str(table.teachers[number]) if table.teachers else UNKNOWN
        found = {
            result.teacher
            for (place, _), result in results.items()
            if place == pair and result.teacher is not None
        }
        ours = " ".join(f"{value:.2f}" for value in sorted(found)) or NOBODY
        cells.append(f"{printed}/{ours}")
    return cells


def _improvement(table: Table, results: Results, row: Row) -> str:
    if row.method == table.baseline:
        return ""
    printed = UNKNOWN if row.improvement is None else f"{row.improvement:.2f}"
    found = {
        result.improvement
        for (_, method), result in results.items()
        if method == row.method and result.improvement is not None
    }
    ours = " ".join(f"{value:.2f}" for value in found) or NOBODY
    return f"{printed}/{ours}"
