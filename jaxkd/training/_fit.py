"""The training loop."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxkd import _checks
from jaxkd._errors import DivergenceError, Interrupted
from jaxkd.training._average import Average, averaged
from jaxkd.training._checkpoints import Checkpoints
from jaxkd.training._loop_state import LoopState
from jaxkd.training._processes import agreed, any_of
from jaxkd.training._program import Program
from jaxkd.training._progress import FitProgress
from jaxkd.training._saving import Saver
from jaxkd.training._stages import Report

Record = dict[str, Any]

# How often several processes agree on whether to save or to stop.
_DISPATCHES_BETWEEN = 16


def fit(
    program: Program,
    loop: LoopState,
    *,
    epochs: int,
    checkpoints: Checkpoints | None = None,
    history: Sequence[Record] = (),
    on_epoch: Callable[[Record], None] | None = None,
    evaluate_every: int = 1,
    stop: Callable[[], bool] | None = None,
    notes: Callable[[LoopState], Mapping[str, Any]] | None = None,
    console: Console | None = None,
    description: str = "training",
) -> tuple[LoopState, list[Record]]:
    """Trains until ``epochs`` are complete, from wherever ``loop`` stands.

    The device is asked for numbers twice a second at most, and always about a step
    that has been dispatched already; between, nothing waits for the host. When the
    state is saved, and when the run is stopped, changes no bit of what it ends with:
    which steps share a dispatch depends on their place in the epoch alone. Several
    processes agree on when, every 16 dispatches; all must call this together.

    Args:
        program: The compiled experiment.
        loop: ``program.start(seed)``, or a restored checkpoint. It is donated.
        epochs: Epochs of the whole run, those before a resume included and those of a
            pretraining stage not.
        checkpoints: Where to save after each epoch (and within, if it says so).
        history: Records of the epochs before a resume.
        on_epoch: Called with each epoch's record, before its checkpoint.
        evaluate_every: Epochs between evaluations on the test set; the last epoch is
            always evaluated.
        stop: Asked before each dispatch whether to end early. Then the state is saved.
        notes: Gives fields that join an epoch's record, from the state at its end.
        console: Where to show progress; by default nowhere.
        description: What the progress display calls this run.

    Returns:
        The final state, and one record per epoch: ``epoch``, ``step``, ``seconds``,
        ``images_per_second`` (without compilation), ``train/...`` means over the
        epoch's steps, ``test/accuracy`` and ``test/loss`` where evaluated (and beside
        them ``test/ema_accuracy`` and ``test/ema_loss``, where an average is kept),
        and, where steps may be skipped, how many were: ``skipped``. Epochs of a
        pretraining stage come first, count on, and are not evaluated; ``stage`` tells
        which is which in a run that has two. With trials, these are means over them,
        ``trials`` holds the values of each by the same names, and images count once
        for each student.

    Raises:
        DivergenceError: If a loss, or a parameter that would be saved, is not finite.
            Checkpoints are only ever taken of states before that.
        Interrupted: If ``stop`` said so, and steps are left.
    """
    _checks.check_at_least(1, epochs=epochs, evaluate_every=evaluate_every)
    records = list(history)
    step = int(jax.device_get(loop.train.step))
    per_epoch = program.steps_per_epoch
    first_epochs = program.pretraining_epochs
    epochs += first_epochs
    saver = Saver(checkpoints, step)
    progress = FitProgress(
        console or Console(quiet=True),
        description,
        epochs=epochs,
        steps_per_epoch=per_epoch,
        completed=step,
    )
    with progress, program.feeding():
        while step < epochs * per_epoch:
            epoch = step // per_epoch
            loop, step, speed = _run_epoch(
                program, loop, step, saver, records, progress, stop
            )
            totals = jax.device_get(loop.monitor.totals)
            record: Record = {"epoch": epoch + 1, "step": step, **speed}
            if notes is not None:
                record |= notes(loop)
            if first_epochs:
                record["stage"] = "pretraining" if epoch < first_epochs else "training"
            measured = _epoch_means(_as_lists(totals), per_epoch)
            in_training = epoch + 1 - first_epochs
            if in_training == epochs - first_epochs or (
                in_training > 0 and in_training % evaluate_every == 0
            ):
                measured |= _tested(program, loop)
            record |= _means(measured)
            if program.trials is not None:
                record["trials"] = measured
            records.append(record)
            progress.epoch(record)
            if on_epoch is not None:
                on_epoch(record)
            if step == program.pretraining_steps:  # never, without such a stage
                loop = program.begin_training(loop)
            saver.save(step, loop, records)
    return loop, records


def _run_epoch(
    program: Program,
    loop: LoopState,
    step: int,
    saver: Saver,
    records: list[Record],
    progress: FitProgress,
    stop: Callable[[], bool] | None,
) -> tuple[LoopState, int, dict[str, float]]:
    """Takes the steps that are left of the current epoch."""
    per_epoch, per_call = program.steps_per_epoch, program.steps_per_call
    end = (step // per_epoch + 1) * per_epoch
    order, stage = program.order(loop), program.stage(step)
    state = program.spread(loop)
    started, first = time.perf_counter(), step
    timed_from = report = None
    # Whatever a clock or a signal decides, several processes must decide as one.
    alone, dispatches = jax.process_count() == 1, 0
    while step < end:
        asking = alone or dispatches % _DISPATCHES_BETWEEN == 0
        dispatches += 1
        if stop is not None and asking and any_of(stop()):
            if report is not None:
                _healthy_metrics(report, saver, per_epoch)
            saver.save(step, program.gather(state), records)
            raise Interrupted(step, f"interrupted after step {step}")
        # Rounding differs between one dispatch of several steps and several of one.
        # So which it is must not depend on where a run was interrupted.
        if per_call > 1 and step % per_epoch % per_call == 0 and step + per_call <= end:
            state, report = stage.advance_many(state, order)
            step += per_call
        else:
            state, report = stage.advance(state, order)
            step += 1
        if timed_from is None:  # compilation is not speed
            jax.block_until_ready(report)
            timed_from, first = time.perf_counter(), step
        saving = step < end and asking and bool(agreed(saver.due(step)))
        if saving or step == end or (progress.due() if alone else asking):
            metrics = _healthy_metrics(report, saver, per_epoch)
            progress.step(step, 1 + (step - 1) // per_epoch, metrics)
        if saving:
            saver.save(step, program.gather(state), records)
    now = time.perf_counter()
    timed = now - (timed_from or started)
    images = (step - first) * program.batch_size * (program.trials or 1)
    speed = images / timed if step > first else 0.0
    return (
        program.gather(state),
        step,
        {"seconds": now - started, "images_per_second": speed},
    )


def _epoch_means(sums: dict[str, list[float]], steps: int) -> dict[str, list[float]]:
    """Each trial's means over the steps it took, and how many it skipped, if it may."""
    sums = dict(sums)
    measured: dict[str, list[float]] = {}
    taken = [float(steps)] * len(sums["loss"])
    if "skipped" in sums:
        measured["skipped"] = sums.pop("skipped")
        taken = [steps - skipped for skipped in measured["skipped"]]
    for name, totals in sums.items():
        measured[f"train/{name}"] = [
            total / count if count else math.nan
            for total, count in zip(totals, taken, strict=True)
        ]
    return measured


def _tested(program: Program, loop: LoopState) -> dict[str, list[float]]:
    """Each student's results on the test set, and those of its average beside them."""
    states = {"test/": loop}
    if isinstance(loop.train.average, Average):
        states["test/ema_"] = averaged(loop)
    measured = {}
    for prefix, state in states.items():
        evaluations = program.evaluate_trials(state)
        measured[f"{prefix}accuracy"] = [e.accuracy for e in evaluations]
        measured[f"{prefix}loss"] = [e.loss for e in evaluations]
    return measured


def _healthy_metrics(
    report: Report, saver: Saver, steps_per_epoch: int
) -> dict[str, float]:
    """The report's metrics as floats; raises if a loss was not finite."""
    metrics, failed_step, failed_metrics = jax.device_get(report)
    failed_steps = np.atleast_1d(failed_step)
    if np.any(failed_steps >= 0):
        trial = int(np.argmax(failed_steps >= 0))
        step = int(failed_steps[trial])
        failed = {name: each[trial] for name, each in _as_lists(failed_metrics).items()}
        what = "the loss is not finite"
        if failed.pop("skipped", 0):
            what = "the loss or its gradient is not finite, again after skipped steps,"
        parts = ", ".join(f"{name} {value:.4g}" for name, value in failed.items())
        which = f" in trial {trial}" if len(failed_steps) > 1 else ""
        raise DivergenceError(
            f"{what} at step {step}{which} (epoch {1 + step // steps_per_epoch}): "
            f"{parts}; {saver.kept()}. A lower learning rate often helps",
            step=step,
        )
    return _means(_as_lists(metrics))


def _as_lists(metrics: dict[str, Any]) -> dict[str, list[float]]:
    """Host floats of each trial, the loss first: compiled functions sort by name."""
    return {
        name: np.atleast_1d(metrics[name]).tolist()
        for name in sorted(metrics, key=lambda name: (name != "loss", name))
    }


def _means(measured: dict[str, list[float]]) -> dict[str, float]:
    """The mean over the trials; of one value, that value."""
    return {name: statistics.fmean(each) for name, each in measured.items()}
