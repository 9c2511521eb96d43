"""Recordings of a teacher's outputs, as ``distill --recorded`` uses them."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxkd import data, recordings, runs
from jaxkd._errors import InvalidInputError
from jaxkd.cli._options import Distill

RECORDED_OPTIONS = (*runs.LOAD_OPTIONS, "subset", "validation")
"""Options of a dataset that decide which rows it has, and what they look like."""


def open_recordings(options: Distill) -> recordings.Recording:
    """Open the recording of the options, or the ensemble of several."""
    opened = [recordings.open(path) for path in options.recorded]
    if len(opened) == 1:
        return opened[0]
    return recordings.ensemble(
        opened, weights=options.recorded_weights, temperature=options.temperature
    )


def with_recorded_options(
    options: Distill, arguments: list[str], recording: recordings.Recording
) -> Distill:
    """Return the options with those of the recording where none are given.

    They become options of the run, because they decide which images its student sees.

    Args:
        options: The options of the command line.
        arguments: The command line, which tells a default from the same value given.
        recording: The recording.
    """
    views, given = recording.views, _Given(arguments)
    changed: dict[str, Any] = {}
    if not views.clean:
        own = {"batch_size": views.batch_size, "data_seed": views.data_seed}
        changed = {k: v for k, v in own.items() if not given.has(k)}
    loading = _augmentation_options(views.augmentation)
    if options.dataset is None:
        unlabeled = recording.load_options.get("unlabeled")
        if unlabeled is not None and not given.has("unlabeled"):
            changed["unlabeled"] = Path(unlabeled)
        loading |= {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in recording.load_options.items()
            if name in RECORDED_OPTIONS
        }
    loading = {k: v for k, v in loading.items() if not given.has(k)}
    completed = dataclasses.replace(options.data, **loading)
    return dataclasses.replace(options, data=completed, **changed)


def source_of(options: Distill, recording: recordings.Recording) -> str:
    """Return the requested dataset, or else the one that was recorded.

    Raises:
        InvalidInputError: If there is neither.
    """
    source = options.dataset or recording.load_options.get("source")
    if source is None:
        raise InvalidInputError(
            f"the recording {recording.path} does not say how its dataset "
            f"{recording.views.dataset} was loaded. Name it with --dataset",
            argument="dataset",
        )
    return source


class _Given:
    """The flags of a command line."""

    def __init__(self, arguments: list[str]):
        flags = {word.partition("=")[0] for word in arguments if word[:2] == "--"}
        self._names = {flag[2:].replace("-", "_") for flag in flags}

    def has(self, name: str) -> bool:
        """Return whether an option is given, also as ``--no-...``."""
        return bool({name, f"no_{name}"} & self._names)


def _augmentation_options(augmentation: data.Augmentation | None) -> dict[str, Any]:
    """Return the options that make the augmentation of a recording; None is none."""
    shown = (augmentation or data.Augmentation())._asdict()
    randaugment = shown["randaugment"]
    return shown | {"randaugment": None if randaugment is None else tuple(randaugment)}
