"""``jaxkd report``: the published table's form, from run folders."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxkd import reports
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._messages import say
from jaxkd.cli._options import Report
from jaxkd.reports import _figures
from jaxkd.reports._comparison_runs import (
    Group,
    Pair,
    Run,
    UnfinishedError,
    collect,
    read_run,
)

STUDENT, TEACHER = "student", "teacher"
_NAMES = {STUDENT: "student alone"}  # what a reader is shown
_CSV = "report.csv"
_BLANK = (
    "No ARI is shown of a method that differs from the student alone by less than the "
    "larger of their standard deviations: that difference is what it divides by."
)
DEFAULT_BASELINE = "hkd+kd"


def run(options: Report, arguments: list[str]) -> None:
    """Reads run folders, compares their methods, and writes the comparison."""
    del arguments
    if not options.runs:
        raise InvalidInputError("report needs at least one run folder")
    out = options.out
    _check_out(out)
    table = _Table(collect(_finished(options.runs)), options.baseline)
    out.mkdir(parents=True, exist_ok=True)
    for picture in out.glob("curves-*.png"):  # of the report that was here
        picture.unlink()
    markdown = table.markdown()
    pictures = []
    for number, pair in enumerate(table.pairs, start=1):
        name = f"curves-{number}.png"
        curves = {
            method: np.array(group.curves).T
            for (place, method), group in table.cells.items()
            if place == pair
        }
        _figures.draw_comparison(
            out / name,
            curves,
            teacher_accuracy=pair.teacher_accuracy,
            title=pair.label,
        )
        pictures.append(f"![Test accuracy over the epochs, {pair.label}]({name})")
    (out / "report.md").write_text("\n\n".join([markdown, *pictures]) + "\n")
    (out / "report.tex").write_text(table.latex())
    with (out / _CSV).open("w", newline="") as file:
        csv.writer(file).writerows(table.records())
    console = Console()
    console.print(markdown, highlight=False, soft_wrap=True, markup=False)
    console.print(f"everything is in {out}", highlight=False, soft_wrap=True)


def _check_out(out: Path) -> None:
    """Refuses a folder that holds something else than a report."""
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"--out: {out} is a file; choose a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / _CSV).is_file():
        raise InvalidInputError(
            f"--out: {out} exists already and is no report (it has no {_CSV}); choose "
            "another folder"
        )


def _finished(folders: Sequence[Path]) -> list[Run]:
    """Reads the runs that have ended, and says which have not."""
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UnfinishedError as error:
            say(f"left out: {error}")
    if not runs:
        raise InvalidInputError("none of the runs has ended")
    return runs


class _Table:
    """Methods in rows, pairs of networks in columns.

    Args:
        groups: The runs, by what they have in common.
        baseline: The method whose improvement over the others is shown, or None.
    """

    def __init__(self, groups: list[Group], baseline: str | None):
        taught = [group for group in groups if group.pair is not None]
        alone = {group.student: group for group in groups if group.pair is None}
        pairs = {group.pair: None for group in taught if group.pair is not None}
        self.pairs: list[Pair] = list(pairs)
        if not self.pairs:
            raise InvalidInputError("none of the runs is one of `jaxkd distill`")
        self.cells: dict[tuple[Pair, str], Group] = {}
        for pair in self.pairs:
            if pair.student in alone:
                self.cells[pair, STUDENT] = alone[pair.student]
        for group in taught:
            assert group.pair is not None
            self.cells[group.pair, group.method] = group
        methods = {group.method: None for group in taught}
        if baseline is None and DEFAULT_BASELINE in methods:
            baseline = DEFAULT_BASELINE
        if baseline is not None and baseline not in methods:
            raise unknown_name("method for --baseline", baseline, methods)
        self.baseline = baseline
        others = sorted(method for method in methods if method != baseline)
        has_student = any(method == STUDENT for _, method in self.cells)
        self.methods = [
            *([STUDENT] if has_student else []),
            *others,
            *([baseline] if baseline else []),
        ]

    def improvement(self, method: str) -> float | None:
        """Of the baseline over a method; None where there is nothing to compare."""
        rows = [
            [result["mean"] for result in results] for results in self._compared(method)
        ]
        if not rows:
            return None
        try:
            ours, theirs, student = zip(*rows, strict=True)
            return reports.average_relative_improvement(ours, theirs, student)
        except InvalidInputError:  # no gain to compare with
            return None

    def is_near_tie(self, method: str) -> bool:
        """Whether an improvement over a method divides by a difference that is noise.

        So on any pair: it is the mean of their quotients.
        """
        return any(
            abs(theirs["mean"] - student["mean"])
            < max(theirs["std"] or 0.0, student["std"] or 0.0)
            for _, theirs, student in self._compared(method)
        )

    def _compared(self, method: str) -> list[list[dict[str, Any]]]:
        """Results of baseline, method and student alone, where a pair has all three."""
        if self.baseline is None or method in (self.baseline, STUDENT):
            return []
        names = (self.baseline, method, STUDENT)
        return [
            [self.cells[pair, name].last for name in names]
            for pair in self.pairs
            if all((pair, name) in self.cells for name in names)
        ]

    def rows(self, plus_minus: str) -> list[list[str]]:
        """The cells as text: mean and deviation of the last epoch, in percent."""
        teachers = [
            ""
            if pair.teacher_accuracy is None
            else f"{100 * pair.teacher_accuracy:.2f}"
            for pair in self.pairs
        ]
        rows = [[TEACHER, *teachers, ""]] if any(teachers) else []
        for method in self.methods:
            found = [self.cells.get((pair, method)) for pair in self.pairs]
            cells = ["" if g is None else _cell(g.last, plus_minus) for g in found]
            improvement = self.improvement(method)
            if improvement is None or self.is_near_tie(method):
                shown = ""
            else:
                shown = f"{100 * improvement:.2f}"
            rows.append([_NAMES.get(method, method), *cells, shown])
        return rows

    def header(self) -> list[str]:
        """The names of the columns."""
        ari = f"ARI of {self.baseline} (%)" if self.baseline else "ARI (%)"
        return ["method", *(pair.label for pair in self.pairs), ari]

    def note(self) -> list[str]:
        """Why cells of the last column are blank, if any are for that reason."""
        return [_BLANK] if any(map(self.is_near_tie, self.methods)) else []

    def markdown(self) -> str:
        """The table with a sentence on what it shows."""
        lines = [self.header(), ["---"] * (2 + len(self.pairs)), *self.rows("±")]
        return "\n".join(
            [
                "Test accuracy (%) after the last epoch, mean ± standard deviation "
                f"over {self._counts()}.",
                "",
                *("| " + " | ".join(cells) + " |" for cells in lines),
                *(line for note in self.note() for line in ("", note)),
            ]
        )

    def latex(self) -> str:
        """The table as a ``tabular``."""
        header, *rows = [
            " & ".join(_escaped(cell) for cell in cells) + r" \\"
            for cells in (self.header(), *self.rows(r"$\pm$"))
        ]
        columns = "l" + "c" * (1 + len(self.pairs))
        return "\n".join(
            [
                rf"\begin{{tabular}}{{{columns}}}",
                r"\hline",
                header,
                r"\hline",
                *rows,
                r"\hline",
                r"\end{tabular}",
                *(f"% {note}" for note in self.note()),
                "",
            ]
        )

    def records(self) -> list[list[Any]]:
        """One line for each method and pair, with all values."""
        lines: list[list[Any]] = [
            [
                *("dataset", "teacher", "student", "method", "seeds"),
                *("last_mean", "last_std", "best_mean", "best_std"),
                *("last_values", "ari", "teacher_accuracy"),
            ]
        ]
        for (pair, method), group in self.cells.items():
            improvement, teacher = self.improvement(method), pair.teacher_accuracy
            lines.append(
                [
                    *(pair.student.dataset, pair.teacher, pair.student.network, method),
                    " ".join(map(str, group.seeds)),
                    *(group.last["mean"], group.last["std"]),
                    *(group.best["mean"], group.best["std"]),
                    " ".join(map(str, group.last["values"])),
                    "" if improvement is None else improvement,
                    "" if teacher is None else teacher,
                ]
            )
        return lines

    def _counts(self) -> str:
        counts = {len(group.seeds) for group in self.cells.values()}
        few, many = min(counts), max(counts)
        return f"{few} seeds" if few == many else f"{few} to {many} seeds"


def _cell(result: dict[str, Any], plus_minus: str) -> str:
    mean = f"{100 * result['mean']:.2f}"
    if len(result["values"]) == 1:
        return mean
    return f"{mean} {plus_minus} {100 * result['std']:.2f}"


def _escaped(text: str) -> str:
    for character in "%_&#":
        text = text.replace(character, "\\" + character)
    return text.replace("→", r"$\rightarrow$")
