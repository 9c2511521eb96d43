"""Share the studies' teacher, student and dataset."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from experiments._runs import Job
from experiments.recipes import fashion_mnist
from experiments.recipes._table import Row

TABLE = fashion_mnist.TABLE
(PAIR,) = TABLE.pairs
# A study has many runs, so use half of the training images and three seeds.
_SMALLER = dataclasses.replace(
    TABLE,
    settings=dataclasses.replace(
        TABLE.settings,
        trials=3,
        options=("--image-size", "14", "--subset", "10000", "--no-report"),
    ),
)


def teacher(root: Path) -> Job:
    """Return the run of the table's teacher, which the studies share."""
    return TABLE.teacher_job(PAIR, root)


def student(root: Path, study: str) -> Job:
    """Return the run of the students alone."""
    job = _SMALLER.student_job(PAIR, root)
    return _moved(job, "student", root / study / "student")


def taught(
    root: Path,
    study: str,
    cell: str,
    row: Row,
    *options: str,
    instead_of: Sequence[str] = (),
) -> Job:
    """Return a run of the teacher's students with a method.

    Args:
        root: The folder of all runs.
        study: The study's folder within it.
        cell: The name of the run in the study.
        row: The method, with its weights.
        options: Options of ``jaxkd distill`` that join or replace those of the table.
        instead_of: Options of the table to remove.
    """
    job = _SMALLER.cell_job(PAIR, row, root)
    arguments = job.arguments
    for option in (*instead_of, *options):
        arguments = _without(arguments, option)
    name = "".join(letter if letter.isalnum() else "-" for letter in cell)
    job = job._replace(arguments=arguments)
    return _moved(job, cell, root / study / name, *options)


def row(method: str) -> Row:
    """Return the row of the table with a given method."""
    (found,) = (row for row in TABLE.rows if row.method == method)
    return found


def _without(arguments: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Remove an option and its values, if present."""
    if not option.startswith("--") or option not in arguments:
        return arguments
    first = arguments.index(option)
    rest = arguments[first + 1 :]
    values = itertools.takewhile(lambda word: not word.startswith("--"), rest)
    return arguments[:first] + rest[len(list(values)) :]


def _moved(job: Job, cell: str, out: Path, *options: str) -> Job:
    kept = job.arguments[: job.arguments.index("--out")]
    return Job(cell, out, (*kept, *options, "--out", str(out)))
