"""The table of a comparison as Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from jaxkd._text import count
from jaxkd.reports._comparison_runs import STUDENT
from jaxkd.reports._comparison_table import Table
from jaxkd.reports._escape import for_csv, for_latex, for_markdown

_NEAR_TIE = (
    "The ARI is blank for a method whose accuracy differs from that of the student "
    "alone by less than the larger of their standard deviations, because the ARI "
    "divides by this difference."
)
_SETTINGS = (
    "Runs of a column that differ in a setting are separate rows, which name it; runs "
    "count as trials of one experiment only if all settings but the seeds are equal."
)
_BEST = (
    "Of runs with --keep best, the accuracy is that of the epoch with the best "
    "validation accuracy."
)
_COLUMNS = (
    "Columns with the same names have different teachers or datasets, which the "
    "fingerprints in parentheses identify. Their accuracies cannot be compared."
)


class Texts:
    """A table in three formats.

    Args:
        table: The table.
        left_out: Sentences on the runs that are not in it.

    Attributes:
        notes: Sentences on what the table does not compare, and those on the runs.
    """

    def __init__(self, table: Table, left_out: Sequence[str]):
        self._table = table
        self._labels = table.labels()
        self.notes = [*self._explain(), *left_out]

    def _explain(self) -> list[str]:
        """Return sentences on what the table does not compare."""
        table, notes = self._table, []
        if any(group.keeps_best for group in table.cells.values()):
            notes.append(_BEST)
        if any(map(table.is_near_tie, table.rows)):
            notes.append(_NEAR_TIE)
        if any(row != group.method for (_, row), group in table.cells.items()):
            notes.append(_SETTINGS)
        notes += [
            f"The ARI over {row} leaves out pairs, because there is not exactly one "
            f"{table.baseline} and one student alone with the same settings."
            for row in table.incomparable()
        ]
        if any(
            names != (pair.teacher.name, pair.dataset.name)
            for pair, names in table.names().items()
        ):
            notes.append(_COLUMNS)
        return notes + self._explain_seeds()

    def _explain_seeds(self) -> list[str]:
        """Return a sentence if deviations of different kinds are side by side."""
        kinds: dict[bool, list[str]] = {False: [], True: []}
        for (_, row), group in self._table.cells.items():
            if len(group.seeds) > 1:
                several = len({data_seed for _, data_seed in group.seeds}) > 1
                kinds[several].append(row_label(row))
        if not all(kinds.values()):
            return []
        ordered, same = (", ".join(dict.fromkeys(kinds[x])) for x in (True, False))
        return [
            f"The deviation of {ordered} includes the order of the data, because the "
            f"data seeds differ; that of {same} does not."
        ]

    def header(self) -> list[str]:
        """Return the names of the columns."""
        baseline = self._table.baseline
        ari = f"ARI of {baseline} (%)" if baseline else "ARI (%)"
        return ["method", *(self._labels[pair] for pair in self._table.pairs), ari]

    def rows(self) -> list[list[str]]:
        """Return the cells: accuracies of the networks that runs keep, in percent."""
        table = self._table
        teachers = [
            ""
            if pair.teacher_accuracy is None
            else f"{100 * pair.teacher_accuracy:.2f}"
            for pair in table.pairs
        ]
        rows = [["teacher", *teachers, ""]] if any(teachers) else []
        for row in table.rows:
            found = [table.cells.get((pair, row)) for pair in table.pairs]
            cells = ["" if group is None else cell(group.reported) for group in found]
            improvement = table.improvement(row)
            if improvement is None or table.is_near_tie(row):
                shown = ""
            else:
                shown = f"{100 * improvement:.2f}"
            rows.append([row_label(row), *cells, shown])
        return rows

    def markdown(self) -> str:
        """Return the table as Markdown, below a sentence that explains the numbers."""
        header, *rows = _escaped([self.header(), *self.rows()], for_markdown)
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join(
            [
                self.caption(),
                "",
                *("| " + " | ".join(cells) + " |" for cells in lines),
                *(x for note in self.notes for x in ("", for_markdown(note))),
            ]
        )

    def caption(self) -> str:
        """Return the sentence that explains the numbers."""
        counts = {len(group.seeds) for group in self._table.cells.values()}
        few, many = min(counts), max(counts)
        seeds = count(many, "seed")
        if many == 1:
            return f"Test accuracy (%) after the last epoch, {seeds}."
        if few != many:
            seeds = f"{few} to {seeds}"
        return (
            "Test accuracy (%) after the last epoch, mean ± standard deviation over "
            f"{seeds}."
        )

    def latex(self) -> str:
        """Return the table as a LaTeX ``tabular``."""
        cells = _escaped([self.header(), *self.rows()], for_latex)
        header, *rows = [" & ".join(line) + r" \\" for line in cells]
        return "\n".join(
            [
                rf"\begin{{tabular}}{{l{'c' * (1 + len(self._table.pairs))}}}",
                r"\hline",
                header,
                r"\hline",
                *rows,
                r"\hline",
                r"\end{tabular}",
                *(f"% {for_latex(note)}" for note in self.notes),
                "",
            ]
        )

    def csv(self) -> str:
        """Return a header, and a line with all values for each row and pair."""
        text = io.StringIO()
        write = csv.writer(text)
        write.writerow(
            [
                *("dataset", "teacher", "student", "method", "seeds"),
                *("last_mean", "last_std", "best_mean", "best_std"),
                *("last_values", "ari", "teacher_accuracy"),
                *("data_seeds", "teacher_fingerprint", "dataset_fingerprint"),
                *("top5_mean", "top5_std"),
                *("best_validation_mean", "best_validation_std"),
            ]
        )
        names = self._table.names()
        for (pair, row), group in self._table.cells.items():
            teacher, dataset = names[pair]
            improvement, accuracy = self._table.improvement(row), pair.teacher_accuracy
            write.writerow(
                [
                    *map(for_csv, (dataset, teacher, pair.student, row)),
                    " ".join(str(seed) for seed, _ in group.seeds),
                    *(group.last["mean"], group.last["std"]),
                    *(group.best["mean"], group.best["std"]),
                    " ".join(map(str, group.last["values"])),
                    "" if improvement is None else improvement,
                    "" if accuracy is None else accuracy,
                    " ".join(str(data_seed) for _, data_seed in group.seeds),
                    *map(for_csv, (pair.teacher.identity, pair.dataset.identity)),
                    *_mean_and_std(group.top5),
                    *_mean_and_std(group.chosen),
                ]
            )
        return text.getvalue()


def _mean_and_std(result: dict[str, Any] | None) -> tuple[Any, Any]:
    """Return the cells of a result that a group may lack."""
    return ("", "") if result is None else (result["mean"], result["std"])


def row_label(row: str) -> str:
    """Return a row's name for people: ``student alone`` for a run without a teacher."""
    return row.replace(STUDENT, "student alone", 1) if _is_alone(row) else row


def _is_alone(row: str) -> bool:
    return row == STUDENT or row.startswith(f"{STUDENT} (")


def _escaped(lines: list[list[str]], escape: Callable[[str], str]) -> list[list[str]]:
    return [[escape(cell) for cell in cells] for cells in lines]


def cell(result: dict[str, Any]) -> str:
    mean = f"{100 * result['mean']:.2f}"
    if len(result["values"]) == 1:
        return mean
    return f"{mean} ± {100 * result['std']:.2f}"
