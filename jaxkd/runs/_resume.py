"""Resume a run: check that it is the same experiment, and restore its state."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxkd import _json, training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.runs._config import Config, effective_options, read_config
from jaxkd.runs._folder import RunFolder
from jaxkd.runs._metrics import check_records, read_records

_REASONS = {
    "epochs": "the learning-rate schedule depends on the run's length, so a longer run "
    "differs from its first step",
    "ema": "the average is part of the state",
    "on_nonfinite": "the saved state contains what this option needs",
    "weight_ramp": "older versions kept all weights constant; continue such a run with "
    "--weight-ramp constant",
}


def check_same_experiment(out: Path, config: Config) -> None:
    """Check that a run is resumed with the settings and data it was started with.

    If the versions of the libraries or the device differ, a warning is printed.

    Args:
        out: The run folder.
        config: The configuration to resume with, from :func:`make_config`.

    Raises:
        ValueError: If settings, network, dataset, teacher, recording or initial weights
            differ. The message lists the differences.
    """
    before, now = read_config(out), _json.strict(config)
    differences = _differences(effective_options(before), effective_options(now))
    for section in ("network", "dataset", "teacher", "recording", "initial"):
        # A recording is identified by its contents.
        parts = [
            {k: v for k, v in config.get(section, {}).items() if k != "paths"}
            for config in (before, now)
        ]
        found = _differences(*parts)
        differences += [(f"{section} {name}", *values) for name, *values in found]
    if differences:
        said = "; ".join(
            f"{name} was {old!r}, is {new!r}"
            + (f" ({_REASONS[name]})" if name in _REASONS else "")
            for name, old, new in differences
        )
        remedy = "Resume it with its own settings, or choose another --out."
        if not training.Checkpoints(RunFolder(out).checkpoints).steps():
            remedy = "It has no checkpoint: delete it, or choose another --out."
        raise InvalidInputError(
            f"{out} was started with other settings: {said}. {remedy}", argument="out"
        )
    versions = [
        f"{name} {old} then, {new} now"
        for name, old, new in _differences(_versions(before), _versions(now))
    ]
    if versions:
        say(
            f"warning: {out} was started with other software or on another device "
            f"({'; '.join(versions)}); its results may differ in the last bits"
        )


@contextlib.contextmanager
def nothing_left_behind(out: Path) -> Iterator[None]:
    """Remove a new run folder on Ctrl-C, or if it cannot be written.

    It is kept if it contains a checkpoint.

    Args:
        out: The run folder. It was empty, and this process holds its lock.
    """
    try:
        yield
    except (KeyboardInterrupt, OSError):
        discard_unsaved(out)
        raise


def discard_unsaved(out: Path) -> None:
    """Remove a new run folder unless it contains a checkpoint."""
    checkpoints = training.Checkpoints(RunFolder(out).checkpoints)
    if not checkpoints.has_any():
        shutil.rmtree(out.resolve(), ignore_errors=True)


def restore(
    out: Path, checkpoints: training.Checkpoints, program: training.Program
) -> tuple[training.LoopState, list[dict[str, Any]]] | None:
    """Restore the newest intact checkpoint of a run, and rename damaged newer ones.

    Args:
        out: The run folder, for messages.
        checkpoints: Its checkpoints.
        program: The compiled experiment.

    Returns:
        The state and the history, or None if the run has no checkpoint yet.

    Raises:
        ValueError: If all checkpoints are damaged.
    """
    checkpoints.refuse_damaged()
    damaged, latest = checkpoints.damaged(), checkpoints.latest()
    if latest is None:
        _warn(f"{out} has no checkpoint, so its training starts again at step 0")
        return None
    for step, reason in damaged if training.is_first() else ():
        aside = checkpoints.set_aside(step)
        say(
            f"warning: the checkpoint of step {step} in {out} is damaged ({reason}). "
            f"It is now called {aside.name}, and that of step {latest} is used"
        )
    loop, record = checkpoints.restore(program.like(latest))
    return loop, _history(out, latest, record, program.steps_per_epoch)


def _history(
    out: Path, step: int, record: dict[str, Any], steps_per_epoch: int
) -> list[dict[str, Any]]:
    """Return the records up to a checkpoint: its own, unless the run folder has more.

    If they differ, a warning is printed.
    """
    saved = record.get("history", [])
    check_records(f"the history in the checkpoint of step {step} in {out}", saved)
    file = RunFolder(out).metrics
    try:
        written = [each for each in read_records(file) if each["step"] <= step]
    except (InvalidInputError, OSError):  # damaged, and written again
        if file.is_dir():
            raise
        written = []
    history = written if len(written) > len(saved) else saved
    epochs = step // steps_per_epoch
    if len(history) < epochs:
        _warn(
            f"{out} has the metrics of only {len(history)} of {epochs} epochs: neither "
            f"{file.name} nor the checkpoint of step {step} has the others"
        )
    elif len(written) < len(history):
        _warn(
            f"{file} has the metrics of only {len(written)} of {epochs} epochs; the "
            f"others are restored from the checkpoint of step {step}"
        )
    return history


def _warn(text: str) -> None:
    if training.is_first():
        say(f"warning: {text}")


def _versions(config: Config) -> dict[str, Any]:
    # Older versions trained on one device and did not record it.
    return {"devices": 1, **config.get("versions", {})}


def _differences(
    before: dict[str, Any] | None, now: dict[str, Any] | None
) -> list[tuple[str, Any, Any]]:
    """List what differs: name (``optimizer.learning_rate``), old value, new value."""
    before, now = before or {}, now or {}
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) or isinstance(new, dict):
            inner = _differences(old, new)
            found += [(f"{name}.{path}", *values) for path, *values in inner]
        elif old != new:
            found.append((name, old, new))
    return found
