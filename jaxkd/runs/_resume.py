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
from jaxkd.runs._metrics import read_metrics

_REASONS = {
    "epochs": "the learning-rate schedule depends on the run's length, so a longer run "
    "differs from its first step",
    "ema": "the average is part of the state",
    "on_nonfinite": "the saved state contains what this option needs",
}


def check_same_experiment(out: Path, config: Config) -> None:
    """Check that a run is resumed with the settings and data it was started with.

    If the versions of the libraries or the device differ, a warning is printed.

    Args:
        out: The run folder.
        config: The configuration to resume with, from :func:`make_config`.

    Raises:
        ValueError: If settings, network, dataset or teacher differ. The message lists
            the differences.
    """
    before, now = read_config(out), _json.strict(config)
    differences = _differences(effective_options(before), effective_options(now))
    for section in ("network", "dataset", "teacher"):
        found = _differences(before.get(section), now.get(section))
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
    """Remove a new run folder on Ctrl-C if it contains nothing to resume yet.

    Args:
        out: The run folder. It was empty, and this process holds its lock.
    """
    try:
        yield
    except KeyboardInterrupt:
        folder = RunFolder(out)
        saved = training.Checkpoints(folder.checkpoints).steps()
        if not saved and not read_metrics(folder.metrics):
            shutil.rmtree(out, ignore_errors=True)
        raise


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
        return None
    for step, reason in damaged if training.is_first() else ():
        aside = checkpoints.set_aside(step)
        say(
            f"warning: the checkpoint of step {step} in {out} is damaged ({reason}). "
            f"It is now called {aside.name}, and that of step {latest} is used"
        )
    loop, record = checkpoints.restore(program.like(latest))
    return loop, record["history"]


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
