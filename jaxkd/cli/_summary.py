"""What came of a run: the last and the best epoch, over its trials."""

import statistics
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]
ACCURACY = "test/accuracy"


def mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (0 of a single value), and the values."""
    values = list(values)
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "values": values,
    }


def accuracies(history: Sequence[Record]) -> list[list[float]]:
    """The test accuracies of each evaluated epoch, one for each trial."""
    return [
        record["trials"][ACCURACY] if "trials" in record else [record[ACCURACY]]
        for record in history
        if ACCURACY in record
    ]


def summarize(history: Sequence[Record], *, seed: int, data_seed: int) -> Record:
    """What ``summary.json`` holds.

    ``test_accuracy_last`` and ``test_accuracy_best`` are means over the trials, the
    best epoch being each trial's own; ``trials`` has their deviations and values.
    """
    table = accuracies(history)
    last = mean_and_deviation(table[-1])
    best = mean_and_deviation([max(epochs) for epochs in zip(*table, strict=True)])
    seeds = [seed + trial for trial in range(len(table[-1]))]
    return {
        "test_accuracy_last": last["mean"],
        "test_accuracy_best": best["mean"],
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["step"],
        "images_per_second": history[-1]["images_per_second"],
        "data_seed": data_seed,
        "trials": {
            "seeds": seeds,
            "test_accuracy_last": last,
            "test_accuracy_best": best,
        },
    }


def shown(result: Record) -> str:
    """A mean, and its deviation where there are several values, in percent."""
    if len(result["values"]) == 1:
        return f"{result['mean']:.2%}"
    return f"{100 * result['mean']:.2f} ± {100 * result['std']:.2f}%"
