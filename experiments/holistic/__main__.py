"""``python -m experiments.holistic``: train the students, or show their numbers."""

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

from experiments.holistic import _evidence, _report
from experiments.studies import _tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    if options.measure:
        _measure(options.work, options.only)
    if options.gather is not None:
        _evidence.save(_evidence.gather(options.work, options.gather))
    if options.table:
        evidence = _evidence.load()
        print("\n\n".join(table(evidence) for table in _report.TABLES.values()))
    if options.draw is not None:
        _report.draw(_evidence.load(), options.draw)


def _measure(work: Path, only: str) -> None:
    import jax  # tables and figures do not need it

    from experiments.holistic import _cells

    for cell in _cells.cells():
        if only in cell.name:
            _cells.measure_teacher(work, cell.scenario)
            _cells.measure(work, cell)
            gc.collect()  # networks have reference cycles: free their memory
            jax.clear_caches()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.holistic",
        description="Train the students of one recorded teacher with every method, or "
        "show the stored numbers.",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/holistic"),
        help="folder for the teachers and for finished cells, which are not repeated",
    )
    parser.add_argument("--measure", action="store_true", help="train what is missing")
    parser.add_argument("--only", default="", help="only cells with this in their name")
    parser.add_argument(
        "--gather",
        metavar="PROVENANCE",
        help="store the numbers of finished cells, with this commit, hardware, date",
    )
    _tables.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
