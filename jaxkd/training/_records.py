"""The numbers of a run as the host sees them: metrics, and one record per epoch."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxkd._errors import DivergenceError
from jaxkd.training._stage import Report
from jaxkd.training._state import Metrics

Record = dict[str, Any]

Measured = dict[str, list[float]]
"""The value of each trial by name."""


def epoch_means(totals: Metrics, steps: int) -> Measured:
    """Compute each trial's means over the steps that it took in an epoch.

    Where steps may be skipped, ``skipped`` counts them. The learning rate is left out
    if it is not known for the whole epoch: a checkpoint of an older version, taken
    during the epoch, does not hold it. With unlabeled images, the accuracy is that on
    all labeled images of the epoch.
    """
    sums = _as_lists(jax.device_get(totals))
    measured: Measured = {}
    taken = [float(steps)] * len(sums["loss"])
    if "skipped" in sums:
        measured["skipped"] = sums.pop("skipped")
        taken = [steps - skipped for skipped in measured["skipped"]]
    for name, values in sums.items():
        if name == "learning_rate" and any(map(math.isnan, values)):
            continue
        counts = taken
        if name == "accuracy" and "labeled" in sums:
            counts = sums["labeled"]
        measured[f"train/{name}"] = _quotients(values, counts)
    return measured


def _quotients(totals: list[float], counts: list[float]) -> list[float]:
    return [x / n if n else math.nan for x, n in zip(totals, counts, strict=True)]


def add_to(record: Record, measured: Measured, trials: int | None) -> None:
    """Add means over the trials to a record, and with trials the value of each."""
    record |= means(measured)
    if trials is not None:
        record.setdefault("trials", {}).update(measured)


def means(measured: Measured) -> dict[str, float]:
    """Compute the means over the trials."""
    return {name: statistics.fmean(each) for name, each in measured.items()}


def healthy_metrics(
    report: Report, *, steps_per_epoch: int, kept: Callable[[], str]
) -> dict[str, float]:
    """Read the newest metrics from the device.

    Args:
        report: The newest report.
        steps_per_epoch: Batches in an epoch, for the error message.
        kept: Describes the last good checkpoint, for the error message.

    Raises:
        DivergenceError: If the loss of any step so far was not finite.
    """
    metrics, failed_step, failed_metrics = jax.device_get(report)
    failed_steps = np.atleast_1d(failed_step)
    if np.any(failed_steps >= 0):
        trial = int(np.argmax(failed_steps >= 0))
        step = int(failed_steps[trial])
        failed = {name: each[trial] for name, each in _as_lists(failed_metrics).items()}
        problem = "the loss is not finite"
        if failed.pop("skipped", 0):
            problem = "the loss or its gradient is not finite, "
            problem += "again after skipped steps,"
        parts = ", ".join(f"{name} {value:.4g}" for name, value in failed.items())
        which = f" in trial {trial}" if len(failed_steps) > 1 else ""
        raise DivergenceError(
            f"{problem} at step {step}{which} (epoch {1 + step // steps_per_epoch}): "
            f"{parts}; {kept()}. A lower learning rate often helps",
            step=step,
        )
    measured = _as_lists(metrics)
    if "labeled" in measured:
        values = _quotients(measured["accuracy"], measured["labeled"])
        measured["accuracy"] = values
    return means(measured)


def _as_lists(metrics: dict[str, Any]) -> Measured:
    """Convert to floats of each trial; the loss comes first, then sorted names."""
    return {
        name: np.atleast_1d(metrics[name]).tolist()
        for name in sorted(metrics, key=lambda name: (name != "loss", name))
    }
