"""``jaxkd show``."""

from pathlib import Path
from typing import Any

from jaxkd import reports, runs
from jaxkd._errors import InvalidInputError
from jaxkd._messages import announce, say
from jaxkd.cli._console import Console
from jaxkd.cli._datasets import add_unlabeled, load_dataset
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
    data_options = _data_options(options, config)
    dataset = load_dataset(source, data_options)
    dataset = add_unlabeled(dataset, config["options"].get("unlabeled"), data_options)
    announce("running the networks for report.html")
    path = reports.rewrite_run_page(
        options.run,
        dataset,
        trial=options.trial,
        teacher=options.teacher,
        alone=options.alone,
    )
    Console().tell(str(path))


def _data_options(options: Show, config: dict[str, Any]) -> DataOptions:
    """Return the run's data options, with the folders of the command line.

    The run folder may come from somebody else, so it does not choose the folder that
    decoded images are written to.
    """
    stored = dict(config["options"].get("data", {}))
    data_dir, recorded = stored.get("data_dir"), stored.get("cache_dir")
    if recorded is not None and options.cache_dir is None:
        say(
            f"{options.run} names the cache folder {recorded}, which `jaxkd show` uses "
            "only if you pass it as --cache-dir"
        )
    stored["data_dir"] = options.data_dir or (data_dir and Path(data_dir))
    stored["cache_dir"] = options.cache_dir
    return runs.as_options(DataOptions, stored)
