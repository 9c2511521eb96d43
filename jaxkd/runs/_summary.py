"""Results of a run: accuracies of the last and of the best epoch, for each trial."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxkd import training
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


def summarize(
    history: Sequence[Record],
    *,
    seed: int,
    data_seed: int,
    stopped_early: bool = False,
) -> Record:
    """Make the contents of ``summary.json``.

    Numbers at the top level are means over the trials. ``trials`` contains their
    deviations and values. The accuracies are those of the network in the checkpoints.
    If that is a moving average, ``live_test_accuracy_last`` is the accuracy of the
    trained network itself.

    - ``test_accuracy_last``: after the last epoch.
    - ``test_accuracy_best``: the highest test accuracy of any epoch of each trial. It
      is reported only: as it is chosen by the test set, it is too high an estimate.
    - ``test_top5_accuracy_last``: for more than five classes.
    - ``validation_accuracy_best``, ``test_accuracy_at_best_validation`` and
      ``trials.best_validation_epochs``: the highest validation accuracy of each trial,
      the test accuracy of that epoch, and the epoch. They are absent without
      validation images.

    Args:
        history: Records of the run.
        seed: Seed of the first trial; the others count up from it.
        data_seed: Seed of the data's order and augmentation.
        stopped_early: Whether the run ended before its last epoch (``stopped_early``).
    """
    table = accuracies(history)
    last = mean_and_deviation(table[-1])
    best = mean_and_deviation([max(epochs) for epochs in zip(*table, strict=True)])
    seeds = [seed + trial for trial in range(len(table[-1]))]
    results = {"test_accuracy_last": last, "test_accuracy_best": best}
    metric = accuracy_metric(history)
    if metric != TEST_ACCURACY:
        live = mean_and_deviation(accuracies(history, TEST_ACCURACY)[-1])
        results["live_test_accuracy_last"] = live
    if top5 := accuracies(history, top5_metric(history)):
        results["test_top5_accuracy_last"] = mean_and_deviation(top5[-1])
    epochs, validated = _at_best_validation(history)
    results |= validated
    return {
        **{name: result["mean"] for name, result in results.items()},
        **({"stopped_early": True} if stopped_early else {}),
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["step"],
        "images_per_second": history[-1]["images_per_second"],
        "data_seed": data_seed,
        "trials": {
            "seeds": seeds,
            **results,
            **({"best_validation_epochs": epochs} if epochs else {}),
        },
    }


def _at_best_validation(history: Sequence[Record]) -> tuple[list[int], Record]:
    """Return each trial's best epoch by validation accuracy, and its results."""
    records = training.best_records(history)
    if not records:
        return [], {}
    chosen = [select_trial(record, trial) for trial, record in enumerate(records)]
    test = accuracy_metric(history)
    validation = test.replace("test/", "validation/")
    results = {
        "validation_accuracy_best": [record[validation] for record in chosen],
        "test_accuracy_at_best_validation": [record[test] for record in chosen],
    }
    return [record["epoch"] for record in records], {
        name: mean_and_deviation(values) for name, values in results.items()
    }


def top5_metric(history: Sequence[Record]) -> str:
    """Return the name of the top-5 metric beside :func:`accuracy_metric`."""
    return accuracy_metric(history).replace("accuracy", "top5_accuracy")


def write_summary(
    run: Path,
    history: Sequence[Record],
    *,
    seed: int,
    data_seed: int,
    stopped_early: bool = False,
) -> Record:
    """Summarize a run, name the device, and write both to its ``summary.json``.

    Returns:
        What was written.
    """
    summary = summarize(
        history, seed=seed, data_seed=data_seed, stopped_early=stopped_early
    )
    summary["device"] = jax.devices()[0].device_kind
    write_json(RunFolder(run).summary, summary)
    return summary


def describe_accuracies(summary: Record) -> str:
    """Describe the accuracies of a summary in a sentence for the terminal."""
    shown = {
        name: format_accuracy(result)
        for name, result in summary["trials"].items()
        if isinstance(result, dict)
    }
    text = f"test accuracy {shown['test_accuracy_last']}"
    if "live_test_accuracy_last" in shown:
        text += f" (without averaging {shown['live_test_accuracy_last']})"
    if "test_top5_accuracy_last" in shown:
        text += f", top-5 {shown['test_top5_accuracy_last']}"
    text += " after the last epoch"
    if "test_accuracy_at_best_validation" in shown:
        epochs = summary["trials"]["best_validation_epochs"]
        text += (
            f", {shown['test_accuracy_at_best_validation']} at the best validation "
            f"accuracy (epoch{'s'[: len(epochs) > 1]} {', '.join(map(str, epochs))})"
        )
    return f"{text}, highest of all epochs {shown['test_accuracy_best']}"


def format_accuracy(result: Record) -> str:
    """Format the result of :func:`mean_and_deviation` in percent: ``92.1 ± 0.3%``."""
    if len(result["values"]) == 1:
        return f"{result['mean']:.2%}"
    return f"{100 * result['mean']:.2f} ± {100 * result['std']:.2f}%"
