"""What came of a run: the last and the best epoch, over its trials."""

import statistics
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]
ACCURACY = "test/accuracy"
EMA_ACCURACY = "test/ema_accuracy"


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None of a single value), and the values."""
    values = list(values)
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def of_trial(record: Record, trial: int) -> Record:
    """A record with one trial's values in place of the means over all."""
    values = record.get("trials", {})
    return {**record, **{name: each[trial] for name, each in values.items()}}


def handed_on(history: Sequence[Record]) -> str:
    """The metric that is the test accuracy of the network that the run hands on."""
    averaged = any(EMA_ACCURACY in record for record in history)
    return EMA_ACCURACY if averaged else ACCURACY


def accuracies(history: Sequence[Record], name: str | None = None) -> list[list[float]]:
    """The test accuracies of each evaluated epoch, one for each trial.

    Args:
        history: The run's records.
        name: The metric; by default :func:`handed_on`.
    """
    name = name or handed_on(history)
    return [
        record["trials"][name] if "trials" in record else [record[name]]
        for record in history
        if name in record
    ]


def summarize(history: Sequence[Record], *, seed: int, data_seed: int) -> Record:
    """What ``summary.json`` holds.

    ``test_accuracy_last`` and ``test_accuracy_best`` are means over the trials, the
    best epoch being each trial's own; ``trials`` has their deviations and values. They
    are those of the network that the run hands on: where a moving average is kept, that
    is the average, and ``live_test_accuracy_last`` that of the network trained.
    """
    table = accuracies(history)
    last = mean_and_deviation(table[-1])
    best = mean_and_deviation([max(epochs) for epochs in zip(*table, strict=True)])
    seeds = [seed + trial for trial in range(len(table[-1]))]
    results = {"test_accuracy_last": last, "test_accuracy_best": best}
    if handed_on(history) != ACCURACY:
        live = mean_and_deviation(accuracies(history, ACCURACY)[-1])
        results["live_test_accuracy_last"] = live
    return {
        **{name: result["mean"] for name, result in results.items()},
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["step"],
        "images_per_second": history[-1]["images_per_second"],
        "data_seed": data_seed,
        "trials": {"seeds": seeds, **results},
    }


def shown(result: Record) -> str:
    """A mean, and its deviation where there are several values, in percent."""
    if len(result["values"]) == 1:
        return f"{result['mean']:.2%}"
    return f"{100 * result['mean']:.2f} ± {100 * result['std']:.2f}%"
