"""The page of a comparison: ``report.html``, a single self-contained file."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxkd import runs
from jaxkd._errors import InvalidInputError
from jaxkd._text import count
from jaxkd.reports import _figures, _html
from jaxkd.reports._comparison_runs import STUDENT, Pair
from jaxkd.reports._comparison_table import Group, Table
from jaxkd.reports._comparison_texts import Texts, row_label
from jaxkd.reports._statistics import Agreement, Calibration

_DIFFERENCES = (
    "Differences are those of test accuracies with the same seed and data seed, in "
    "points: their mean ± standard deviation, and how many are above zero."
)
_TEST_SET = (
    "Agreement with the teacher and calibration are those of the networks that the "
    "pages of the runs show: one trial of each run, by default the first."
)
_NO_BREAK = "\N{NO-BREAK SPACE}"


class Measured(NamedTuple):
    """What the pages of a group's runs say of the test set.

    Attributes:
        student: Calibration of each run.
        teacher: Calibration of the teacher, from each page with a teacher.
        agreement: Agreement of student and teacher, from the same pages.
    """

    student: Sequence[Calibration]
    teacher: Sequence[Calibration]
    agreement: Sequence[Agreement]


def comparison_page(table: Table, texts: Texts) -> str:
    """Return the page of a comparison.

    Args:
        table: The table.
        texts: Its texts.
    """
    methods = {group.method for group in table.cells.values()} - {STUDENT}
    title = f"Comparison of {count(len(methods), 'method')}"
    sections = [
        _html.heading(title),
        _html.text(texts.caption()),
        _html.table(texts.header(), texts.rows()),
    ]
    notes = list(texts.notes)
    for pair, label in table.labels().items():
        section, more = _section(table, pair, label)
        sections.append(section)
        notes += more
    remarks = [_html.text(note) for note in dict.fromkeys(notes)]
    sections.append(_html.section("Notes", *remarks))
    return _html.document(title, sections, small_images=False)


def _section(table: Table, pair: Pair, label: str) -> tuple[str, list[str]]:
    """Return the section of a column, and sentences on what it lacks."""
    column, notes = table.column(pair), []
    curves = {row_label(row): values for row, values in table.curves(pair).items()}
    cards = {
        "Test accuracy": _figures.comparison_chart(
            curves, teacher_accuracy=pair.teacher_accuracy, title=label
        )
    }
    if differences := _differences(table, pair):
        head = ("method", "above the student alone", f"{table.baseline} above it")
        width = 3 if table.baseline else 2
        rows = [row[:width] for row in differences]
        cards["Differences with equal seeds"] = _html.table(head[:width], rows)
        notes.append(_DIFFERENCES)
    found = {row: _measured(group) for row, group in column.items()}
    measured = {row_label(row): each for row, each in found.items() if each.student}
    if compared := {name: each for name, each in measured.items() if each.agreement}:
        cards["Same prediction as the teacher, and who is right (%)"] = _agreement(
            compared
        )
    if measured:
        cards["Calibration"] = _calibration(measured, label)
        notes.append(_TEST_SET)
    if missing := [row_label(row) for row, each in found.items() if not each.student]:
        notes.append(
            f"Agreement and calibration are left out for {', '.join(missing)}, because "
            "the runs have no page. To add them: jaxkd show RUN"
        )
    return _html.section(label, _html.cards(cards.items())), notes


def _differences(table: Table, pair: Pair) -> list[list[str]]:
    """Return rows with the differences from the student alone and the baseline."""
    baselines, alone = table.references(pair)
    rows = []
    for row, group in table.column(pair).items():
        if group.method == STUDENT:
            continue
        below = [g for g in alone if g.trained_like(group)]
        above = [g for g in baselines if g.trained_like(group) and g is not group]
        cells = [
            _difference(group, below[0]) if len(below) == 1 else "",
            _difference(above[0], group) if len(above) == 1 else "",
        ]
        if any(cells):
            rows.append([row, *cells])
    return rows


def _difference(group: Group, reference: Group) -> str:
    """Return the differences of the seeds that both have; empty if there are none."""
    ours, theirs = (
        dict(zip(each.seeds, each.reported["values"], strict=True))
        for each in (group, reference)
    )
    points = 100 * np.array([ours[s] - theirs[s] for s in ours if s in theirs])
    if not len(points):
        return ""
    text = f"{points.mean():+.2f}"
    if len(points) > 1:
        text += f" ± {points.std(ddof=1):.2f}"
    # A line of a narrow table ends before the parenthesis.
    text, above = (
        x.replace(" ", _NO_BREAK)
        for x in (text, f"({np.sum(points > 0)} of {len(points)})")
    )
    return f"{text} {above}"


def _measured(group: Group) -> Measured:
    """Read what the pages of a group's runs say of the test set."""
    student, teacher, agreement = [], [], []
    for folder in group.folders:
        results = runs.read_test_results(folder)
        if results is None:
            continue
        bins = {
            name: Calibration(
                *(np.array(each[key], float) for key in Calibration._fields)
            )
            for name, each in results["calibration"].items()
        }
        if len({len(x.counts) for x in (*student, *bins.values())}) > 1:
            raise InvalidInputError(
                f"the page of {folder} has other bins than those of the other runs. "
                f"Write it again with: jaxkd show {folder}",
                argument="runs",
            )
        student.append(bins["student"])
        if "teacher" in bins and "agreement" in results:
            teacher.append(bins["teacher"])
            counts = results["agreement"]
            agreement.append(Agreement(*(counts[key] for key in Agreement._fields)))
    return Measured(student, teacher, agreement)


def _agreement(measured: Mapping[str, Measured]) -> str:
    """Return the table of who is right, as means over the runs."""
    head = ("method", "same", "both", "teacher", "student", "none")
    rows = []
    for name, each in measured.items():
        counts = np.array(each.agreement, float)
        shares = counts / counts[:, 1:].sum(axis=1, keepdims=True)
        percent = [f"{100 * share:.1f}" for share in shares.mean(axis=0)]
        rows.append([name, *percent])
    return _html.table(head, rows)


def _calibration(measured: Mapping[str, Measured], label: str) -> str:
    """Draw the calibration of each method, with the test images of all its runs."""
    pooled = {name: _pooled(each.student) for name, each in measured.items()}
    teachers = [each.teacher for each in measured.values() if each.teacher]
    if teachers:
        pooled["teacher"] = teachers[0][0]
    return _figures.reliability(pooled, title=label)


def _pooled(calibrations: Sequence[Calibration]) -> Calibration:
    return Calibration(*(np.sum(x, axis=0) for x in zip(*calibrations, strict=True)))
