"""Results of a run: accuracies of the last and of the best epoch, for each trial."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxkd.runs._files import write_json
from jaxkd.runs._folder import RunFolder

Record = dict[str, Any]
TEST_ACCURACY = "test/accuracy"
EMA_TEST_ACCURACY = "test/ema_accuracy"


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """Compute the mean and the sample standard deviation (None for a single value).

    Returns:
        A dict with ``mean``, ``std`` and, as a list, ``values``.
    """
    values = list(values)
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def select_trial(record: Record, trial: int) -> Record:
    """Return a record with the values of one trial in place of the means over all."""
    values = record.get("trials", {})
    return {**record, **{name: each[trial] for name, each in values.items()}}


def accuracy_metric(history: Sequence[Record]) -> str:
    """Return the name of the metric that tests the network which checkpoints contain.

    That network is the moving average of the trained one, if the run keeps an average.
    """
    averaged = any(EMA_TEST_ACCURACY in record for record in history)
    return EMA_TEST_ACCURACY if averaged else TEST_ACCURACY


def accuracies(history: Sequence[Record], name: str | None = None) -> list[list[float]]:
    """Return the test accuracies of each evaluated epoch, one for each trial.

    Args:
        history: Records of the run.
        name: The metric; by default that of :func:`accuracy_metric`.
    """
    name = name or accuracy_metric(history)
    return [
        record["trials"][name] if "trials" in record else [record[name]]
        for record in history
        if name in record
    ]


def summarize(history: Sequence[Record], *, seed: int, data_seed: int) -> Record:
    """Make the contents of ``summary.json``.

    ``test_accuracy_last`` and ``test_accuracy_best`` are means over the trials, where
    each trial has its own best epoch. ``trials`` contains their deviations and values.
    The accuracies are those of the network in the checkpoints. If that is a moving
    average, ``live_test_accuracy_last`` is the accuracy of the trained network itself.

    Args:
        history: Records of the run.
        seed: Seed of the first trial; the others count up from it.
        data_seed: Seed of the data's order and augmentation.
    """
    table = accuracies(history)
    last = mean_and_deviation(table[-1])
    best = mean_and_deviation([max(epochs) for epochs in zip(*table, strict=True)])
    seeds = [seed + trial for trial in range(len(table[-1]))]
    results = {"test_accuracy_last": last, "test_accuracy_best": best}
    if accuracy_metric(history) != TEST_ACCURACY:
        live = mean_and_deviation(accuracies(history, TEST_ACCURACY)[-1])
        results["live_test_accuracy_last"] = live
    return {
        **{name: result["mean"] for name, result in results.items()},
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["step"],
        "images_per_second": history[-1]["images_per_second"],
        "data_seed": data_seed,
        "trials": {"seeds": seeds, **results},
    }


def write_summary(
    run: Path, history: Sequence[Record], *, seed: int, data_seed: int
) -> Record:
    """Summarize a run, name the device, and write both to its ``summary.json``.

    Returns:
        What was written.
    """
    summary = summarize(history, seed=seed, data_seed=data_seed)
    summary["device"] = jax.devices()[0].device_kind
    write_json(RunFolder(run).summary, summary)
    return summary


def format_accuracy(result: Record) -> str:
    """Format the result of :func:`mean_and_deviation` in percent: ``92.1 ± 0.3%``."""
    if len(result["values"]) == 1:
        return f"{result['mean']:.2%}"
    return f"{100 * result['mean']:.2f} ± {100 * result['std']:.2f}%"
