"""``python -m experiments.studies STUDY``: lists its runs, or carries them out."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import _runs
from experiments.studies import STUDIES
from jaxkd import cli
from jaxkd._errors import InvalidInputError


def main(
    arguments: Sequence[str] | None = None,
    jaxkd: Callable[[Sequence[str]], None] = cli.main,
) -> None:
    """Does what the command line says.

    Args:
        arguments: Those of the command line.
        jaxkd: Carries out a command of ``jaxkd``.
    """
    options = _parser().parse_args(arguments)
    study = STUDIES[options.study]
    jobs = study.jobs(options.runs)
    if options.only is not None:
        jobs = [job for job in jobs if options.only in job.cell]
    try:
        if options.run_all:
            _runs.run(jobs, jaxkd)
        if options.gather is not None:
            study.save(study.gather(options.runs, options.gather))
    except InvalidInputError as error:
        print(f"studies: {error}", file=sys.stderr)
        sys.exit(2)
    if options.table:
        print(study.table(study.load()))
    if options.draw is not None:
        study.draw(study.load()).savefig(options.draw / f"{study.name}.png", dpi=150)
    if not (options.run_all or options.gather or options.table or options.draw):
        for job in jobs:
            print(f"# {job.cell}\n{shlex.join(['jaxkd', *job.arguments])}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.studies",
        description="Lists the commands of a study, runs them, shows what came out.",
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the run folders"
    )
    parser.add_argument("--only", help="runs whose name has this in it")
    parser.add_argument(
        "--run-all", action="store_true", help="run all that is not finished"
    )
    parser.add_argument(
        "--gather",
        metavar="PROVENANCE",
        help="keep the numbers of all finished runs, with their commit, hardware, date",
    )
    parser.add_argument(
        "--table", action="store_true", help="print the numbers that are kept"
    )
    parser.add_argument(
        "--draw", type=Path, metavar="FOLDER", help="draw them into a folder"
    )
    return parser


if __name__ == "__main__":
    main()
