"""The training loop."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from rich.console import Console

from jaxkd import _checks
from jaxkd._errors import DivergenceError
from jaxkd.training._checkpoints import Checkpoints
from jaxkd.training._program import LoopState, Program, Report
from jaxkd.training._progress import FitProgress

Record = dict[str, Any]


def fit(
    program: Program,
    loop: LoopState,
    *,
    epochs: int,
    checkpoints: Checkpoints | None = None,
    history: Sequence[Record] = (),
    on_epoch: Callable[[Record], None] | None = None,
    evaluate_every: int = 1,
    console: Console | None = None,
    description: str = "training",
) -> tuple[LoopState, list[Record]]:
    """Trains until ``epochs`` are complete, from wherever ``loop`` stands.

    The device is asked for numbers twice a second at most, and always about a step
    that has been dispatched already; between, nothing waits for the host.

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
        console: Where to show progress; by default nowhere.
        description: What the progress display calls this run.

    Returns:
        The final state, and one record per epoch: ``epoch``, ``step``, ``seconds``,
        ``images_per_second`` (without compilation), ``train/...`` means over the
        epoch, ``test/accuracy`` and ``test/loss`` where evaluated. Epochs of a
        pretraining stage come first, count on, and are not evaluated; ``stage`` tells
        which is which in a run that has two.

    Raises:
        DivergenceError: If a loss is not finite. Checkpoints are only ever taken of
            states before that.
    """
    _checks.check_at_least(1, epochs=epochs, evaluate_every=evaluate_every)
    records = list(history)
    step = int(jax.device_get(loop.train.step))
    per_epoch = program.steps_per_epoch
    first_epochs = program.pretraining_epochs
    epochs += first_epochs
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
                program, loop, step, checkpoints, records, progress
            )
            totals = jax.device_get(loop.monitor.totals)
            record: Record = {"epoch": epoch + 1, "step": step, **speed}
            if first_epochs:
                record["stage"] = "pretraining" if epoch < first_epochs else "training"
            record |= {
                f"train/{name}": total / per_epoch
                for name, total in _as_floats(totals).items()
            }
            in_training = epoch + 1 - first_epochs
            if in_training == epochs - first_epochs or (
                in_training > 0 and in_training % evaluate_every == 0
            ):
                evaluation = program.evaluate(loop)
                record["test/accuracy"] = evaluation.accuracy
                record["test/loss"] = evaluation.loss
            records.append(record)
            progress.epoch(record)
            if on_epoch is not None:
                on_epoch(record)
            if step == program.pretraining_steps:  # never, without such a stage
                loop = program.begin_training(loop)
            if checkpoints is not None:
                checkpoints.save(step, loop, {"history": records})
    return loop, records


def _run_epoch(
    program: Program,
    loop: LoopState,
    step: int,
    checkpoints: Checkpoints | None,
    records: list[Record],
    progress: FitProgress,
) -> tuple[LoopState, int, dict[str, float]]:
    """Takes the steps that are left of the current epoch."""
    per_epoch, per_call = program.steps_per_epoch, program.steps_per_call
    end = (step // per_epoch + 1) * per_epoch
    every = None if checkpoints is None else checkpoints.every_steps
    order, stage = program.order(loop), program.stage(step)
    started, first = time.perf_counter(), step
    timed_from = None
    while step < end:
        stop = end if every is None else min(end, (step // every + 1) * every)
        if stop - step >= per_call > 1:
            loop, report = stage.advance_many(loop, order)
            step += per_call
        else:
            loop, report = stage.advance(loop, order)
            step += 1
        if timed_from is None:  # compilation is not speed
            jax.block_until_ready(report)
            timed_from, first = time.perf_counter(), step
        saving = checkpoints is not None and step == stop < end
        if saving or step == end or progress.due():
            metrics = _healthy_metrics(report, checkpoints, per_epoch)
            progress.step(step, 1 + (step - 1) // per_epoch, metrics)
        if saving:
            assert checkpoints is not None
            checkpoints.save(step, loop, {"history": records})
    now = time.perf_counter()
    timed = now - (timed_from or started)
    speed = (step - first) * program.batch_size / timed if step > first else 0.0
    return loop, step, {"seconds": now - started, "images_per_second": speed}


def _healthy_metrics(
    report: Report, checkpoints: Checkpoints | None, steps_per_epoch: int
) -> dict[str, float]:
    """The report's metrics as floats; raises if a loss was not finite."""
    metrics, failed_step, failed_metrics = jax.device_get(report)
    if failed_step >= 0:
        parts = ", ".join(
            f"{name} {value:.4g}" for name, value in _as_floats(failed_metrics).items()
        )
        last = None if checkpoints is None else checkpoints.latest()
        kept = "no checkpoint" if last is None else f"last good checkpoint: step {last}"
        raise DivergenceError(
            f"the loss is not finite at step {failed_step} (epoch "
            f"{1 + failed_step // steps_per_epoch}): {parts}; {kept}. "
            "A lower learning rate often helps"
        )
    return _as_floats(metrics)


def _as_floats(metrics: dict[str, Any]) -> dict[str, float]:
    """Host floats, the loss first: compiled functions return dicts sorted by name."""
    return {
        name: float(metrics[name])
        for name in sorted(metrics, key=lambda name: (name != "loss", name))
    }
