"""``jaxkd show``."""

from pathlib import Path
from typing import Any

from rich.console import Console

from jaxkd import reports, runs
from jaxkd._errors import InvalidInputError
from jaxkd.cli._datasets import load_dataset
from jaxkd.cli._options import DataOptions, Show


def run(options: Show, arguments: list[str]) -> None:
    """Write the page of a run again, and print its path."""
    del arguments
    config = runs.read_config(options.run)
    runs.read_history(options.run)  # fail before the dataset is loaded
    source = config["dataset"]["source"]
    if source is None:
        raise InvalidInputError(
            f"{options.run} does not record the dataset of its network, which its page "
            "needs",
            argument="run",
        )
    dataset = load_dataset(source, _data_options(options, config))
    path = reports.rewrite_run_page(
        options.run, dataset, trial=options.trial, teacher=options.teacher
    )
    Console().print(str(path), highlight=False, soft_wrap=True, markup=False)


def _data_options(options: Show, config: dict[str, Any]) -> DataOptions:
    """Return the run's data options, with the folders of the command line."""
    stored = dict(config["options"].get("data", {}))
    for name in ("data_dir", "cache_dir"):
        given = getattr(options, name) or stored.get(name)
        stored[name] = None if given is None else Path(given)
    return runs.as_options(DataOptions, stored)
