"""The comparison of several runs: a table in the form of the published ones."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._messages import say
from jaxkd.reports import _figures
from jaxkd.reports._comparison_runs import (
    Group,
    Pair,
    Run,
    UnfinishedError,
    collect,
    read_run,
)
from jaxkd.reports._improvement import average_relative_improvement

_STUDENT = "student"
_LABELS = {_STUDENT: "student alone"}
_DEFAULT_BASELINE = "hkd+kd"
_MARKDOWN, _LATEX, _CSV = "report.md", "report.tex", "report.csv"
_NEAR_TIE = (
    "The ARI is blank for a method whose accuracy differs from that of the student "
    "alone by less than the larger of their standard deviations, because the ARI "
    "divides by this difference."
)


def write_comparison(
    runs: Sequence[Path], out: Path, *, baseline: str | None = None
) -> str:
    """Compare finished runs in ``report.md``, ``.tex`` and ``.csv``, with curves.

    Runs that differ only in their seeds are trials of one experiment. Runs without a
    teacher are the student alone of all pairs with the same network and dataset. Runs
    that have not finished are left out, with a line on stderr.

    Args:
        runs: Run folders.
        out: The folder to write to. An earlier comparison there is replaced.
        baseline: The method whose average relative improvement (ARI) over the others
            is shown; by default ``hkd+kd``, if it is among them.

    Returns:
        The table as Markdown.

    Raises:
        ValueError: If no run has finished or none has a teacher, if runs cannot be
            compared, if the baseline is not among the methods, or if ``out`` contains
            anything other than a comparison.
    """
    if not runs:
        raise InvalidInputError(
            "runs is empty. Give at least one run folder.", argument="runs"
        )
    _check_out(out)
    table = _Table(collect(_finished(runs)), baseline)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("curves-*.png"):
        old.unlink()
    markdown = table.markdown()
    images = _draw_curves(out, table)
    (out / _MARKDOWN).write_text(
        "\n\n".join([markdown, *images]) + "\n", encoding="utf-8"
    )
    (out / _LATEX).write_text(table.latex(), encoding="utf-8")
    with (out / _CSV).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table.records())
    return markdown


def _check_out(out: Path) -> None:
    """Check that a folder is new or empty, or contains an earlier comparison."""
    if out.exists() and not out.is_dir():
        raise InvalidInputError(
            f"{out} is a file. Choose a folder for --out.", argument="out"
        )
    if out.is_dir() and any(out.iterdir()) and not (out / _CSV).is_file():
        raise InvalidInputError(
            f"{out} already exists and is not a report: it has no {_CSV}. Choose "
            "another folder for --out.",
            argument="out",
        )


def _finished(folders: Sequence[Path]) -> list[Run]:
    """Read the runs that have finished, and print which have not."""
    found = []
    for folder in folders:
        try:
            found.append(read_run(folder))
        except UnfinishedError as error:
            say(f"left out: {error}")
    if not found:
        raise InvalidInputError(
            "none of the runs has finished. Continue one with --resume.",
            argument="runs",
        )
    return found


def _draw_curves(out: Path, table: "_Table") -> list[str]:
    """Draw the accuracy curves of each pair; return Markdown that shows them."""
    images = []
    for number, pair in enumerate(table.pairs, start=1):
        name = f"curves-{number}.png"
        curves = {
            method: np.array(group.curves).T
            for (its_pair, method), group in table.cells.items()
            if its_pair == pair
        }
        _figures.draw_comparison(
            out / name,
            curves,
            teacher_accuracy=pair.teacher_accuracy,
            title=pair.label,
        )
        images.append(f"![Test accuracy over the epochs, {pair.label}]({name})")
    return images


class _Table:
    """Methods in rows, pairs of networks in columns.

    Args:
        groups: The experiments.
        baseline: The method whose improvement over the others is shown; None for the
            default.

    Attributes:
        pairs: The columns.
        methods: The rows: the student alone first, the baseline last.
        baseline: The method whose improvement is shown; None if there is none.
        cells: The experiment of each pair and method.
    """

    def __init__(self, groups: list[Group], baseline: str | None):
        taught = [group for group in groups if group.pair is not None]
        alone = {group.student: group for group in groups if group.pair is None}
        pairs = {group.pair: None for group in taught if group.pair is not None}
        self.pairs: list[Pair] = list(pairs)
        if not self.pairs:
            raise InvalidInputError(
                "none of the runs has a teacher. Add a run of `jaxkd distill`.",
                argument="runs",
            )
        self.cells: dict[tuple[Pair, str], Group] = {}
        for pair in self.pairs:
            if pair.student in alone:
                self.cells[pair, _STUDENT] = alone[pair.student]
        for group in taught:
            assert group.pair is not None
            self.cells[group.pair, group.method] = group
        methods = {group.method: None for group in taught}
        if baseline is None and _DEFAULT_BASELINE in methods:
            baseline = _DEFAULT_BASELINE
        if baseline is not None and baseline not in methods:
            raise unknown_name("baseline", baseline, methods)
        self.baseline = baseline
        others = sorted(method for method in methods if method != baseline)
        has_student = any(method == _STUDENT for _, method in self.cells)
        self.methods = [
            *([_STUDENT] if has_student else []),
            *others,
            *([baseline] if baseline else []),
        ]

    def improvement(self, method: str) -> float | None:
        """Return the baseline's ARI over a method; None if it is not defined."""
        rows = [
            [result["mean"] for result in results] for results in self._compared(method)
        ]
        if not rows:
            return None
        try:
            ours, theirs, student = zip(*rows, strict=True)
            return average_relative_improvement(ours, theirs, student)
        except InvalidInputError:  # a method equals the student alone
            return None

    def is_near_tie(self, method: str) -> bool:
        """Return whether the ARI over a method divides by noise on any pair.

        One pair is enough, because the ARI is a mean of quotients.
        """
        return any(
            abs(theirs["mean"] - student["mean"])
            < max(theirs["std"] or 0.0, student["std"] or 0.0)
            for _, theirs, student in self._compared(method)
        )

    def _compared(self, method: str) -> list[list[dict[str, Any]]]:
        """Return baseline, method and student alone on each pair that has all three."""
        if self.baseline is None or method in (self.baseline, _STUDENT):
            return []
        names = (self.baseline, method, _STUDENT)
        return [
            [self.cells[pair, name].last for name in names]
            for pair in self.pairs
            if all((pair, name) in self.cells for name in names)
        ]

    def rows(self, plus_minus: str) -> list[list[str]]:
        """Return the cells as text: accuracies of the last epoch, in percent."""
        teachers = [
            ""
            if pair.teacher_accuracy is None
            else f"{100 * pair.teacher_accuracy:.2f}"
            for pair in self.pairs
        ]
        rows = [["teacher", *teachers, ""]] if any(teachers) else []
        for method in self.methods:
            found = [self.cells.get((pair, method)) for pair in self.pairs]
            cells = ["" if g is None else _cell(g.last, plus_minus) for g in found]
            improvement = self.improvement(method)
            if improvement is None or self.is_near_tie(method):
                shown = ""
            else:
                shown = f"{100 * improvement:.2f}"
            rows.append([_LABELS.get(method, method), *cells, shown])
        return rows

    def header(self) -> list[str]:
        """Return the titles of the columns."""
        ari = f"ARI of {self.baseline} (%)" if self.baseline else "ARI (%)"
        return ["method", *(pair.label for pair in self.pairs), ari]

    def notes(self) -> list[str]:
        """Return the note on blank cells of the last column, if it applies."""
        return [_NEAR_TIE] if any(map(self.is_near_tie, self.methods)) else []

    def markdown(self) -> str:
        """Return the table as Markdown, below a sentence that explains the numbers."""
        lines = [self.header(), ["---"] * (2 + len(self.pairs)), *self.rows("±")]
        return "\n".join(
            [
                self._caption(),
                "",
                *("| " + " | ".join(cells) + " |" for cells in lines),
                *(line for note in self.notes() for line in ("", note)),
            ]
        )

    def _caption(self) -> str:
        counts = {len(group.seeds) for group in self.cells.values()}
        few, many = min(counts), max(counts)
        if many == 1:
            return "Test accuracy (%) after the last epoch, 1 seed."
        seeds = f"{few} seeds" if few == many else f"{few} to {many} seeds"
        return (
            "Test accuracy (%) after the last epoch, mean ± standard deviation over "
            f"{seeds}."
        )

    def latex(self) -> str:
        """Return the table as a LaTeX ``tabular``."""
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
                *(f"% {note}" for note in self.notes()),
                "",
            ]
        )

    def records(self) -> list[list[Any]]:
        """Return a header, and a line with all values for each method and pair."""
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


def _cell(result: dict[str, Any], plus_minus: str) -> str:
    mean = f"{100 * result['mean']:.2f}"
    if len(result["values"]) == 1:
        return mean
    return f"{mean} {plus_minus} {100 * result['std']:.2f}"


def _escaped(text: str) -> str:
    for character in "%_&#":
        text = text.replace(character, "\\" + character)
    return text.replace("→", r"$\rightarrow$")
