"""Continuing a run: is it the same experiment, and what is left of it?"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxkd import training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.runs._load import read_config
from jaxkd.runs._metrics import read_metrics

# What may differ between a run and its continuation: where things lie and how often
# they are saved. A teacher and a dataset are known by their contents.
HARMLESS = (
    *("out", "resume", "checkpoint_every", "checkpoint_minutes", "teacher"),
    *("report", "profile", "wandb", "devices"),
)
HARMLESS_DATA = ("data_dir", "cache_dir", "stream", "workers")

_WHY = {
    "epochs": "the learning rate falls at fractions of the run, so one of "
    "another length differs from its first steps on",
    "ema": "the average is part of the state",
    "on_nonfinite": "what it takes to notice and to go on is part of the state",
}


def check_same_experiment(out: Path, config: dict[str, Any]) -> None:
    """Refuses to resume a run under other settings or on other data.

    Other versions of the libraries, or another device, are said aloud and not refused.

    Raises:
        ValueError: Listing what differs.
    """
    before, now = _comparable(read_config(out)), _comparable(config)
    differences = []
    for section in ("options", "network", "dataset", "teacher"):
        # An option is known by its name; what else differs, by where it stands.
        place = "" if section == "options" else f"{section} "
        for name, old, new in _differences(before.get(section), now.get(section)):
            why = f" ({_WHY[name]})" if name in _WHY else ""
            differences.append(f"{place}{name} was {old!r}, is {new!r}{why}")
    if differences:
        empty = ""
        if not training.Checkpoints(out / "checkpoints").steps():
            empty = "; it holds no checkpoint: delete it, or choose another --out"
        raise InvalidInputError(
            f"--resume: {out} was started with other settings: "
            + "; ".join(differences)
            + empty
        )
    versions = [
        f"{name} {old} then, {new} now"
        for name, old, new in _differences(before["versions"], now["versions"])
    ]
    if versions:
        say(
            f"warning: {out} was started with other software or on another device "
            f"({'; '.join(versions)}); it may end with other bits"
        )


@contextlib.contextmanager
def nothing_left_behind(out: Path) -> Iterator[None]:
    """Removes a run folder if Ctrl-C comes before there is anything to continue.

    Args:
        out: The folder, which this process holds and found empty.
    """
    try:
        yield
    except KeyboardInterrupt:
        recorded = read_metrics(out / "metrics.jsonl")
        if not recorded and not training.Checkpoints(out / "checkpoints").steps():
            shutil.rmtree(out, ignore_errors=True)
        raise


def restore(
    out: Path, checkpoints: training.Checkpoints, program: training.Program
) -> tuple[training.LoopState, list[dict[str, Any]]] | None:
    """Reads the newest intact checkpoint of a run, and sets damaged ones aside.

    Returns:
        The state and the history; None if the run had not saved anything yet.

    Raises:
        ValueError: If there are only damaged ones.
    """
    checkpoints.refuse_damaged()
    damaged, latest = checkpoints.damaged(), checkpoints.latest()
    if latest is None:
        return None
    for step, reason in damaged if training.is_first() else ():
        aside = checkpoints.set_aside(step)
        say(
            f"warning: the checkpoint of step {step} in {out} is damaged ({reason}); "
            f"it is now called {aside.name}, and that of step {latest} is used"
        )
    loop, record = checkpoints.restore(program.like(latest))
    return loop, record["history"]


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    config = json.loads(json.dumps(config))
    config.setdefault("versions", {}).setdefault("devices", 1)
    for name in HARMLESS:
        config["options"].pop(name, None)
    for name in HARMLESS_DATA:
        config["options"].get("data", {}).pop(name, None)
    return config


def _differences(
    before: dict[str, Any] | None, now: dict[str, Any] | None
) -> list[tuple[str, Any, Any]]:
    """What differs: its place (``optimizer.learning_rate``), what was, what is."""
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
