"""The comparison of several runs: a table in the form of the published ones."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd._text import count
from jaxkd.reports import _figures
from jaxkd.reports._comparison_runs import STUDENT, Run, UnfinishedError, read_run
from jaxkd.reports._comparison_table import Table, collect
from jaxkd.reports._escape import for_csv, for_latex, for_markdown
from jaxkd.reports._report_folder import check_folder, write_files

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


def write_comparison(
    runs: Sequence[Path], out: Path, *, baseline: str | None = None
) -> str:
    """Compare finished runs in ``report.md``, ``.tex`` and ``.csv``, with curves.

    Runs that differ only in their seeds are trials of one experiment. Runs of different
    teachers, students or datasets are in different columns, by their fingerprints. Runs
    of different settings are in different rows, which name the settings. Runs without a
    teacher are the student alone of all pairs with the same network and dataset. Runs
    that cannot be compared are left out, with a line on stderr.

    Args:
        runs: Run folders.
        out: The folder to write to. An earlier comparison there is replaced.
        baseline: The method or row whose average relative improvement (ARI) over the
            others is shown; by default ``hkd+kd``, if it is among them.

    Returns:
        The table as Markdown.

    Raises:
        ValueError: If no run has finished or none has a teacher, if a run is damaged,
            if a seed occurs twice, if the baseline is not among the methods, or if
            ``out`` contains anything other than a comparison.
    """
    if not runs:
        raise InvalidInputError(
            "runs is empty. Give at least one run folder.", argument="runs"
        )
    check_folder(out)
    finished, left_out = _finished(runs)
    left_out += [run.remark for run in finished if run.remark]
    table = Table(collect(finished), baseline)
    left_out += [
        f"left out: no run with a teacher has the network and dataset of {group.folder}"
        for group in table.unused
    ]
    for line in left_out:
        say(line)
    texts = _Texts(table, left_out)
    markdown = texts.markdown()
    images, shown = _draw_curves(table)
    out_files = {
        "report.md": "\n\n".join([markdown, *shown]) + "\n",
        "report.tex": texts.latex(),
        "report.csv": texts.csv(),
    }
    encoded = {name: text.encode() for name, text in out_files.items()}
    write_files(out, images | encoded)
    return markdown


def _finished(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read the runs that have finished; return them, and sentences on the others."""
    found, left_out = [], []
    for folder in folders:
        try:
            found.append(read_run(folder))
        except UnfinishedError as error:
            left_out.append(f"left out: {error}")
    if not found:
        for line in left_out:
            say(line)
        raise InvalidInputError(
            "none of the runs has finished. Continue one with --resume.",
            argument="runs",
        )
    return found, left_out


def _draw_curves(table: Table) -> tuple[dict[str, bytes], list[str]]:
    """Draw the curves of each pair; return PNG files, and Markdown that shows them."""
    labels, files, shown = table.labels(), {}, []
    for number, pair in enumerate(table.pairs, start=1):
        name = f"curves-{number}.png"
        curves = {
            row: np.array(table.cells[pair, row].curves).T
            for row in table.rows
            if (pair, row) in table.cells
        }
        files[name] = _figures.comparison_image(
            curves, teacher_accuracy=pair.teacher_accuracy, title=labels[pair]
        )
        title = for_markdown(labels[pair])
        shown.append(f"![Test accuracy over the epochs, {title}]({name})")
    return files, shown


class _Texts:
    """A table in three formats.

    Args:
        table: The table.
        left_out: Sentences on the runs that are not in it.
    """

    def __init__(self, table: Table, left_out: Sequence[str]):
        self._table = table
        self._labels = table.labels()
        self._notes = [*self._explain(), *left_out]

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
                kinds[several].append(_row_label(row))
        if not all(kinds.values()):
            return []
        ordered, same = (", ".join(dict.fromkeys(kinds[x])) for x in (True, False))
        return [
            f"The deviation of {ordered} includes the order of the data, because the "
            f"data seeds differ; that of {same} does not."
        ]

    def _header(self) -> list[str]:
        baseline = self._table.baseline
        ari = f"ARI of {baseline} (%)" if baseline else "ARI (%)"
        return ["method", *(self._labels[pair] for pair in self._table.pairs), ari]

    def _rows(self) -> list[list[str]]:
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
            cells = ["" if group is None else _cell(group.reported) for group in found]
            improvement = table.improvement(row)
            if improvement is None or table.is_near_tie(row):
                shown = ""
            else:
                shown = f"{100 * improvement:.2f}"
            rows.append([_row_label(row), *cells, shown])
        return rows

    def markdown(self) -> str:
        """Return the table as Markdown, below a sentence that explains the numbers."""
        header, *rows = _escaped([self._header(), *self._rows()], for_markdown)
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join(
            [
                self._caption(),
                "",
                *("| " + " | ".join(cells) + " |" for cells in lines),
                *(x for note in self._notes for x in ("", for_markdown(note))),
            ]
        )

    def _caption(self) -> str:
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
        cells = _escaped([self._header(), *self._rows()], for_latex)
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
                *(f"% {for_latex(note)}" for note in self._notes),
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


def _row_label(row: str) -> str:
    """Return a row's name for people: ``student alone`` for a run without a teacher."""
    return row.replace(STUDENT, "student alone", 1) if _is_alone(row) else row


def _is_alone(row: str) -> bool:
    return row == STUDENT or row.startswith(f"{STUDENT} (")


def _escaped(lines: list[list[str]], escape: Callable[[str], str]) -> list[list[str]]:
    return [[escape(cell) for cell in cells] for cells in lines]


def _cell(result: dict[str, Any]) -> str:
    mean = f"{100 * result['mean']:.2f}"
    if len(result["values"]) == 1:
        return mean
    return f"{mean} ± {100 * result['std']:.2f}"
