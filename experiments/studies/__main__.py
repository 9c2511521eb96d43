"""``python -m experiments.studies STUDY``: list the runs of a study, or run them."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import _runs
from experiments.studies import STUDIES, _tables
from jaxkd import cli
from jaxkd._errors import InvalidInputError


def main(
    arguments: Sequence[str] | None = None,
    jaxkd: Callable[[Sequence[str]], None] = cli.main,
) -> None:
    """Run the command line.

    Args:
        arguments: Arguments of the command line.
        jaxkd: Runs a command of ``jaxkd``.
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
        description="List the commands of a study, run them, or show the results.",
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        help="folder that contains the run folders",
    )
    parser.add_argument("--only", help="only runs whose name contains this")
    parser.add_argument(
        "--run-all", action="store_true", help="run everything that is not finished"
    )
    parser.add_argument(
        "--gather",
        metavar="PROVENANCE",
        help="store the numbers of finished runs, with this commit, hardware, date",
    )
    _tables.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
