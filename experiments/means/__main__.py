"""``python -m experiments.means STUDY``: measure a study, or show its numbers."""

import argparse
from collections.abc import Sequence

from experiments.means import STUDIES
from experiments.means._study import Evidence
from experiments.studies import _tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    study, dataset = STUDIES[options.study], options.dataset
    if options.measure is not None:
        teacher, cells = study.measure(dataset, options.seeds)
        study.save(Evidence(options.measure, dataset, teacher, cells))
    if options.table:
        print(study.table(study.load(dataset)))
    if options.draw is not None:
        figure = study.draw(study.load(dataset))
        figure.savefig(options.draw / f"{study.name}_{dataset}.png", dpi=150)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.means",
        description="Measure a study of the mean logit, or show its numbers.",
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--dataset", default="digits", help="digits, or a TFDS dataset of 28x28 images"
    )
    parser.add_argument(
        "--seeds", type=int, default=10, help="students of each setting"
    )
    parser.add_argument(
        "--measure",
        metavar="PROVENANCE",
        help="train all students, and store their numbers with commit, hardware, date",
    )
    _tables.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
