"""Start the runs of an experiment that are not finished."""

import gc
import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxkd._errors import InvalidInputError

# The location of files does not change the experiment.
_PLACES = ("--out", "--teacher", "--data-dir", "--cache-dir")


class Job(NamedTuple):
    """One run.

    Attributes:
        cell: Its name in the table or study.
        out: Its run folder.
        arguments: The arguments of ``jaxkd``.
    """

    cell: str
    out: Path
    arguments: tuple[str, ...]


def finished(job: Job) -> bool:
    """Check whether a job's folder holds its result, or a converted network instead.

    Raises:
        ValueError: If another command than the job's wrote the folder.
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
    """Run jobs in order; skip finished ones, and resume interrupted ones.

    Args:
        jobs: The jobs to run.
        start: Runs a command of ``jaxkd``, given its arguments; raises an error if the
            command fails.
    """
    for job in jobs:
        if finished(job):
            print(f"{job.cell}: {job.out} is finished", flush=True)
            continue
        resume = ("--resume",) if (job.out / "config.json").is_file() else ()
        arguments = (*job.arguments, *resume)
        print(f"{job.cell}: {shlex.join(['jaxkd', *arguments])}", flush=True)
        start(arguments)
        gc.collect()  # networks have reference cycles: free their memory


def _without_places(arguments: Sequence[str]) -> list[str]:
    kept, rest = [], iter(arguments)
    for word in rest:
        if word in _PLACES:
            next(rest, None)
        elif word != "--resume":
            kept.append(word)
    return kept


def done(jobs: Iterable[Job]) -> list[Path]:
    """Return the folders of the finished jobs."""
    return [job.out for job in jobs if finished(job)]
