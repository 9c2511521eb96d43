"""Read the results of a run: its summary and its metrics, which must agree."""

import math
import os
from pathlib import Path
from typing import Any

from jaxkd import training
from jaxkd._errors import InvalidInputError
from jaxkd.runs import _schema
from jaxkd.runs._config import read_config
from jaxkd.runs._files import damaged, read_json
from jaxkd.runs._folder import RunFolder
from jaxkd.runs._metrics import read_records
from jaxkd.runs._summary import EMA_TEST_ACCURACY, TEST_ACCURACY, accuracies

Record = dict[str, Any]

_RESULTS = {
    *("test_accuracy_last", "test_accuracy_best", "live_test_accuracy_last"),
    *("test_top5_accuracy_last", "validation_accuracy_best"),
    "test_accuracy_at_best_validation",
}


def read_summary(run: Path) -> Record | None:
    """Read the ``summary.json`` of a run; None if its training has not finished.

    Raises:
        InvalidInputError: If the file is damaged, or does not belong to the run's
            configuration and metrics.
    """
    folder = RunFolder.at(run)
    summary = _read_summary(folder)
    if summary is not None:
        history = read_records(folder.metrics)
        _check_same_run(folder, summary, history)
    return summary


def read_metrics(path: str | os.PathLike) -> list[Record]:
    """Read the records of a run: one per epoch.

    An incomplete last line, left by a killed process, is ignored. Infinity and NaN,
    which JSON cannot represent, are strings in the file and floats in the result.

    Args:
        path: The run folder, or its ``metrics.jsonl``.

    Returns:
        The records in the order of training; an empty list if there is no file.

    Raises:
        InvalidInputError: If the file is damaged, or if the path is a run folder whose
            summary is of another run.
    """
    folder = RunFolder.at(path)
    if not folder.path.is_dir():
        return read_records(folder.path)
    history = read_records(folder.metrics)
    summary = _read_summary(folder)
    if summary is not None:
        _check_same_run(folder, summary, history)
    return history


def read_history(run: Path) -> list[Record]:
    """Read the records of a run that has trained for at least one epoch.

    Raises:
        InvalidInputError: If the run has no records yet, or they are damaged.
    """
    history = read_metrics(run)
    if not history:
        raise InvalidInputError(
            f"{run} has no metrics yet: no epoch of training is finished. Train it "
            "first.",
            argument="run",
        )
    file = RunFolder(run).metrics
    for number, record in enumerate(history, start=1):
        for name in ("epoch", "images_per_second"):
            if name not in record:
                raise damaged(f"{file}, line {number},", f"it has no {name}")
    return history


def _read_summary(folder: RunFolder) -> Record | None:
    """Read a summary, and check that it is consistent in itself."""
    try:
        summary = read_json(folder.summary)
    except FileNotFoundError:
        return None
    _schema.check(folder.summary, summary, _schema.SUMMARY)
    summary.setdefault("data_seed", 0)
    trials = summary.get("trials", {})
    for name in _RESULTS & trials.keys():
        result = trials[name]
        values = result["values"]
        if len(values) != len(trials["seeds"]):
            problem = f"trials.{name} has {len(values)} values, but there are "
            raise damaged(folder.summary, f"{problem}{len(trials['seeds'])} seeds")
        mean = math.fsum(values) / len(values)
        for path, stored in (
            (f"trials.{name}.mean", result["mean"]),
            (name, summary.get(name, mean)),
        ):
            if not _close(stored, mean):
                wanted = f"{mean:g}, the mean of trials.{name}.values"
                raise _schema.wrong(folder.summary, path, stored, wanted)
    return summary


def _check_same_run(folder: RunFolder, summary: Record, history: list[Record]) -> None:
    """Check that a summary belongs to the configuration and metrics beside it."""
    if "trials" not in summary:  # an older version wrote it
        return
    if folder.config.exists():
        _check_options(folder.summary, summary, read_config(folder.path)["options"])
    if not history:
        return
    for name, key in (("steps", "step"), ("epochs", "epoch")):
        last = history[-1].get(key)
        if name in summary and last is not None and summary[name] != last:
            raise damaged(
                folder.metrics,
                f"it ends at {key} {last}, but {folder.summary.name} is of a run of "
                f"{summary[name]} {name}",
                remedy="Resume the run with --resume, which restores the metrics from "
                "its checkpoint.",
            )
    stored = summary["trials"]["test_accuracy_last"]["values"]
    found = [
        table[-1]
        for name in (EMA_TEST_ACCURACY, TEST_ACCURACY)
        if (table := accuracies(history, name))
    ]
    if found and not any(_all_close(stored, values) for values in found):
        wanted = f"{_schema.shown(found[0])} as in {folder.metrics.name}"
        path = "trials.test_accuracy_last.values"
        raise _schema.wrong(folder.summary, path, stored, wanted)
    stored = summary["trials"].get("best_validation_epochs")
    epochs = [record.get("epoch") for record in training.best_records(history)]
    if stored is not None and stored != epochs:
        wanted = f"{_schema.shown(epochs)}, as in {folder.metrics.name}"
        path = "trials.best_validation_epochs"
        raise _schema.wrong(folder.summary, path, stored, wanted)


def _check_options(file: Path, summary: Record, options: dict[str, Any]) -> None:
    """Check that a summary has the seeds of the run's options."""
    expected = {"data_seed": options.get("data_seed", summary["data_seed"])}
    found = {"data_seed": summary["data_seed"]}
    if (first := options.get("seed")) is not None:
        seeds = [first + trial for trial in range(options.get("trials", 1))]
        expected["trials.seeds"], found["trials.seeds"] = (
            seeds,
            summary["trials"]["seeds"],
        )
    for path, value in found.items():
        if value != expected[path]:
            wanted = f"{_schema.shown(expected[path])}, as in config.json"
            raise _schema.wrong(file, path, value, wanted)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6)


def _all_close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(map(_close, one, other))
