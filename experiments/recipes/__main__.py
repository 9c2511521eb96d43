"""``python -m experiments.recipes TABLE``: list a table's commands, or run them."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import _runs
from experiments.recipes import TABLES, _results
from experiments.recipes._table import TINY, Table, smoke
from jaxkd._errors import InvalidInputError

Command = Callable[[Sequence[str]], None]


def main(arguments: Sequence[str] | None = None, jaxkd: Command | None = None) -> None:
    """Run the command line.

    Args:
        arguments: Arguments of the command line.
        jaxkd: Runs a command of ``jaxkd``; by default in this process.
    """
    options = _parser().parse_args(arguments)
    table = TABLES[options.table]
    if options.smoke is not None:
        table = smoke(table, dataclasses.replace(TINY, model=options.smoke))
    try:
        if options.trials is not None:
            table = with_trials(table, options.trials)
        _act(options, table, jaxkd or _in_this_process)
    except InvalidInputError as error:
        print(f"recipes: {error}", file=sys.stderr)
        sys.exit(2)


def with_trials(table: Table, trials: int) -> Table:
    """Change the number of students in each cell."""
    if trials < 1:
        raise InvalidInputError(f"--trials must be at least 1, got {trials}")
    settings = dataclasses.replace(table.settings, trials=trials)
    return dataclasses.replace(table, settings=settings)


def _act(options: argparse.Namespace, table: Table, jaxkd: Command) -> None:
    root, trials = options.runs, table.settings.trials
    if options.run:
        _runs.run(_jobs_of(table, root, *options.run), jaxkd)
    if options.run_all:
        _runs.run(table.jobs(root), jaxkd)
    if options.report:
        print(f"{table.title}\n{_results.legend(table)}\n")
        print(_results.text_table(table, _results.measure(table, root, jaxkd)))
    if options.cost:
        from experiments.recipes import _cost  # imports JAX

        print(f"{_cost.sentence(table)}.")
        for pair in table.pairs:
            share = _cost.cell_days(table, pair)
            print(f"{pair.name}, a cell of {trials} students: {share:,.1f} days")
    if not (options.run or options.run_all or options.report or options.cost):
        for job in table.jobs(root):
            print(f"# {job.cell}\n{shlex.join(['jaxkd', *job.arguments])}")


def _jobs_of(table: Table, root: Path, pair: str, method: str) -> list[_runs.Job]:
    """Return the runs of one cell; the teacher's is the first."""
    found = {(place.name, name): jobs for place, name, jobs in table.cells(root)}
    if (pair, method) not in found:
        pairs = dict.fromkeys(place for place, _ in found)
        methods = dict.fromkeys(name for _, name in found)
        raise InvalidInputError(
            f"there is no cell {pair} {method}; pairs: {', '.join(pairs)}; methods: "
            f"{', '.join(methods)}"
        )
    return found[pair, method]


def _in_this_process(arguments: Sequence[str]) -> None:
    from jaxkd import cli

    cli.main(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.recipes",
        description="List the commands of a published table, or run them.",
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        help="folder that contains the run folders",
    )
    parser.add_argument("--trials", type=int, help="number of students per cell")
    parser.add_argument(
        "--smoke",
        nargs="?",
        const=TINY.model,
        choices=(TINY.model, "mlp"),
        help="tiny networks on digits: resnet8, or an MLP for methods that need no "
        "feature maps, a few seconds a cell",
    )
    parser.add_argument(
        "--run",
        nargs=2,
        metavar=("PAIR", "METHOD"),
        help="run a cell: a pair, and a recipe of jaxkd, teacher or student",
    )
    parser.add_argument(
        "--run-all", action="store_true", help="run everything that is not finished"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="print finished results next to the published ones",
    )
    parser.add_argument("--cost", action="store_true", help="estimate the time")
    return parser


if __name__ == "__main__":
    main()
