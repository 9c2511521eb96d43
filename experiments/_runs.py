"""Runs of ``jaxkd``: which are finished, and how the others are started."""

import gc
import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxkd._errors import InvalidInputError

# Where things lie says nothing of what was trained.
_PLACES = ("--out", "--teacher", "--data-dir", "--cache-dir")


class Job(NamedTuple):
    """One run.

    Attributes:
        cell: What it is in the table or study.
        out: Its run folder.
        arguments: The arguments of ``jaxkd``.
    """

    cell: str
    out: Path
    arguments: tuple[str, ...]


def finished(job: Job) -> bool:
    """Whether a job's folder holds its result, or a converted network in its place.

    Raises:
        ValueError: If the folder is of another command than the job's.
    """
    config = job.out / "config.json"
    if not config.is_file():
        return False
    command = shlex.split(json.loads(config.read_text())["command"])
    if command[:2] == ["jaxkd", "convert"] and job.arguments[0] == "train":
        return True  # a published teacher
    if _without_places(command[1:]) != _without_places(job.arguments):
        raise InvalidInputError(
            f"{job.out} is of another command, `{shlex.join(command)}`; remove it or "
            "choose another --runs"
        )
    return (job.out / "summary.json").is_file()


def run(jobs: Iterable[Job], start: Callable[[Sequence[str]], None]) -> None:
    """Runs jobs in their order; passes over finished ones, resumes interrupted ones.

    Args:
        jobs: What to run.
        start: Carries out a command of ``jaxkd``, given its arguments; raises if it
            does not end well.
    """
    for job in jobs:
        if finished(job):
            print(f"{job.cell}: {job.out} is there", flush=True)
            continue
        resume = ("--resume",) if (job.out / "config.json").is_file() else ()
        arguments = (*job.arguments, *resume)
        print(f"{job.cell}: {shlex.join(['jaxkd', *arguments])}", flush=True)
        start(arguments)
        gc.collect()  # networks refer to themselves: free their memory for the next


def _without_places(arguments: Sequence[str]) -> list[str]:
    kept, rest = [], iter(arguments)
    for word in rest:
        if word in _PLACES:
            next(rest, None)
        elif word != "--resume":
            kept.append(word)
    return kept


def done(jobs: Iterable[Job]) -> list[Path]:
    """The folders of the jobs that are finished."""
    return [job.out for job in jobs if finished(job)]
