"""``jaxkd show``: the report of a run, made again."""

from pathlib import Path
from typing import Any

from rich.console import Console

from jaxkd import runs, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli._datasets import load_dataset
from jaxkd.cli._options import DataOptions, Show
from jaxkd.reports import _run_page
from jaxkd.runs import _folder


def run(options: Show, arguments: list[str]) -> None:
    """Makes a run's report again and says where it is."""
    del arguments
    config = runs.read_config(options.run)
    dataset = load_dataset(config["dataset"]["source"], _data_options(options, config))
    teacher, note = None, ""
    if "teacher" in config["options"]:
        folder = options.teacher or Path(config["options"]["teacher"])
        trial = config["options"].get("teacher_trial", 0)
        try:
            loaded = _folder.load_network(folder, trial=trial)
            teacher = training.freeze_teacher(loaded.module, loaded.normalization)
        except InvalidInputError as error:
            if options.teacher is not None:
                raise
            note = f"Without the teacher: {error}. (jaxkd show RUN --teacher FOLDER)"
    answers = _run_page.ask(options.run, dataset, teacher, trial=options.trial)
    path = _run_page.write_report(options.run, answers, dataset, note=note)
    Console().print(str(path), highlight=False, soft_wrap=True, markup=False)


def _data_options(options: Show, config: dict[str, Any]) -> DataOptions:
    """Those of the run, its folders replaced by what the command line says."""
    stored = dict(config["options"].get("data", {}))
    for name in ("data_dir", "cache_dir"):
        given = getattr(options, name) or stored.get(name)
        stored[name] = None if given is None else Path(given)
    return _folder.as_options(DataOptions, stored)
