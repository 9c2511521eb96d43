"""``jaxkd train``."""

from jaxkd import training
from jaxkd.cli import _devices
from jaxkd.cli._datasets import load_dataset
from jaxkd.cli._job import resolve
from jaxkd.cli._options import Train
from jaxkd.cli._train_network import join, train_network


def run(options: Train, arguments: list[str]) -> None:
    """Train a network without a teacher."""
    job = resolve(options, arguments)
    join(job)
    dataset = training.all_or_none(
        lambda: load_dataset(options.dataset, options.data),
        _devices.ANOTHER_PROCESS_FAILED,
    )
    train_network(job, options.dataset, dataset)
