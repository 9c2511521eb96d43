"""Load a trained network from a run folder, or save one there."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxkd import recordings, training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.data import Normalization
from jaxkd.runs import _schema
from jaxkd.runs._config import LOAD_OPTIONS, Config, NetworkConfig, read_config
from jaxkd.runs._files import damaged, write_json
from jaxkd.runs._fingerprint import fingerprint
from jaxkd.runs._folder import RunFolder
from jaxkd.runs._results import read_summary
from jaxkd.runs._resume import nothing_left_behind


class LoadedNetwork(NamedTuple):
    """A trained network, loaded from its run folder.

    Attributes:
        module: The network with its trained variables.
        network: How the network was built.
        normalization: Normalization of its images.
        dataset: The dataset it was trained on, as :func:`jaxkd.data.load` takes it;
            None if the run does not record one.
        class_names: Names of the classes, in the order of the logits; None if the run
            does not record them.
        step: Step of the checkpoint that was loaded.
        load_options: Arguments of :func:`jaxkd.data.load`, apart from the name, that
            decide what the dataset contains, such as ``image_size``.
        averaged: Whether the variables are the moving average of the trained ones.
        trial: Index of this trial in the run.
        trials: Number of trials in the run.
        seed: Seed of this trial; None if the run does not record it.
        best: Whether this is the network with the best validation accuracy, and not
            that of the newest checkpoint.
    """

    module: nnx.Module
    network: NetworkConfig
    normalization: Normalization
    dataset: str | None
    class_names: tuple[str, ...] | None
    step: int
    load_options: dict[str, Any]
    averaged: bool = False
    trial: int = 0
    trials: int = 1
    seed: int | None = None
    best: bool = False

    @property
    def image_size(self) -> int | None:
        """Height and width that images were resized to; None if they were not."""
        return self.load_options.get("image_size")

    @property
    def version(self) -> str:
        """Which of the run's networks this is, as text for the user."""
        words = f"step {self.step}"
        if self.trials > 1:
            words += f", trial {self.trial}, seed {self.seed}"
        words += ", best validation accuracy" if self.best else ""
        return words + (", averaged weights" if self.averaged else "")


def load_run(
    path: str | os.PathLike,
    *,
    trial: int = 0,
    warn: Callable[[str], None] = warnings.warn,
) -> LoadedNetwork:
    """Load a trained network from its run folder: the newest intact checkpoint.

    If the run keeps the network with the best validation accuracy (``--keep best``),
    that one is loaded.

    The folder comes from ``jaxkd train``, ``distill`` or ``convert``; it is not
    modified. To use the network as a teacher, freeze it with the normalization it was
    trained with: ``training.freeze_teacher(loaded.module, loaded.normalization)``.

    Args:
        path: The run folder.
        trial: Index of the trial to load, for a run of several trials.
        warn: Called with a message for each newer checkpoint that is damaged.

    Returns:
        The network, and what its run records about it.

    Raises:
        InvalidInputError: If the folder is not a run folder, has no intact checkpoint,
            or has no such trial.
    """
    folder = RunFolder.at(path)
    if not folder.path.is_dir():
        raise InvalidInputError(
            f"there is no run folder {folder.path}. Check the path.", argument="path"
        )
    config = read_config(folder.path)
    checkpoints = training.Checkpoints(folder.checkpoints)
    if not checkpoints.steps():
        raise InvalidInputError(
            f"{folder.path} has no finished checkpoint. Continue its training with "
            "--resume.",
            argument="path",
        )
    checkpoints.refuse_damaged()
    best = training.Checkpoints(folder.best)
    keeps_best = config["options"].get("keep") == "best" and bool(best.steps())
    if keeps_best:
        checkpoints = best
        checkpoints.refuse_damaged()
    step = checkpoints.latest()
    assert step is not None
    for newer, reason in checkpoints.damaged():
        warn(
            f"the checkpoint of step {newer} in {checkpoints.directory.parent} is "
            f"damaged ({reason}); that of step {step} is used"
        )
    _schema.require(folder.config, config, _schema.TO_BUILD)
    network = _network(config, folder.config)
    module = _abstract(network, folder.config)
    record = checkpoints.restore_network(module, trial=trial)
    steps = record.get("best_steps", []) if keeps_best else []
    names, options = config.get("class_names"), config["options"]
    seed = options.get("seed")
    return LoadedNetwork(
        module,
        network,
        _normalization(config),
        dataset=config["dataset"]["source"],
        class_names=None if names is None else tuple(names),
        step=steps[trial] if trial < len(steps) else step,
        load_options=_load_options(config),
        averaged=record.get("averaged", False),
        trial=trial,
        trials=options.get("trials", 1),
        seed=None if seed is None else seed + trial,
        best=keeps_best,
    )


def _load_options(config: Config) -> dict[str, Any]:
    """Return the arguments of :func:`jaxkd.data.load` that were given."""
    stored = {name: config["dataset"].get(name) for name in LOAD_OPTIONS}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored.items()
        if value is not None
    }


def _network(config: Config, file: Path) -> NetworkConfig:
    stored = config["network"]
    known = {field.name for field in dataclasses.fields(NetworkConfig)}
    if unknown := stored.keys() - known:
        raise damaged(
            file,
            f"network.{min(unknown)} is not known here",
            remedy="If a newer version of jaxkd wrote it, update jaxkd.",
        )
    return NetworkConfig(**{**stored, "image_shape": tuple(stored["image_shape"])})


def _abstract(network: NetworkConfig, file: Path) -> nnx.Module:
    """Build the shapes of a network whose description may be forged."""
    try:
        return network.abstract()
    except Exception as error:  # sizes that JAX or the network cannot work with
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise damaged(file, f"its network cannot be built ({reason[0]})") from error


def _normalization(config: Config) -> Normalization:
    stored = config["normalization"]
    return Normalization(np.float32(stored["mean"]), np.float32(stored["std"]))


def load_network(run: Path, *, trial: int = 0) -> LoadedNetwork:
    """Load a network with :func:`load_run`, and print its warnings on stderr."""
    return load_run(run, trial=trial, warn=lambda text: say(f"warning: {text}"))


def describe_teacher(
    run: Path, trial: int, teacher: training.FrozenNetwork
) -> dict[str, Any]:
    """Describe a teacher for its student's ``config.json``.

    Args:
        run: The teacher's run folder.
        trial: Index of the trial that teaches.
        teacher: The network that was loaded from there.

    Returns:
        The teacher's network, its test accuracy in ``[0, 1]`` (None if the run folder
        does not contain it), and the fingerprint of its variables.
    """
    config, trials = read_config(run), (read_summary(run) or {}).get("trials", {})
    result = trials.get("test_accuracy_last", {})
    if config["options"].get("keep") == "best":
        result = trials.get("test_accuracy_at_best_validation", result)
    values = result.get("values", [])
    return {
        "network": config["network"],
        "test_accuracy": values[trial] if trial < len(values) else None,
        "fingerprint": fingerprint(teacher),
    }


def describe_recorded_teacher(recording: recordings.Recording) -> dict[str, Any]:
    """Describe the teacher of a recording for its student's ``config.json``.

    Returns:
        The entries of :func:`describe_teacher`, as far as the recording has them. A
        network that jaxkd does not know has its name in place of the model.
    """
    said = recording.teacher
    network, accuracy = said.get("network"), said.get("test_accuracy")
    fingerprint = said.get("fingerprint")
    if not isinstance(network, dict) or not isinstance(network.get("model"), str):
        network = {"model": _name(said), "width": None}
    if not _schema.FRACTION.accepts(accuracy):
        accuracy = None
    if not isinstance(fingerprint, str):
        fingerprint = f"recording {recording.fingerprint}"
    return {
        "network": network,
        "test_accuracy": accuracy,
        "fingerprint": fingerprint,
    }


def _name(said: dict[str, Any]) -> str:
    """Return a name for a recorded teacher that is not a network of jaxkd."""
    if members := said.get("members"):
        each = [dict(x.get("network") or {"model": _name(x)}) for x in members]
        return " + ".join(str(x.get("model")) for x in each)
    return str(said.get("name") or "recorded")


def describe_recording(
    recording: recordings.Recording, paths: Sequence[Path]
) -> dict[str, Any]:
    """Describe recorded outputs for a student's ``config.json``.

    Args:
        recording: The recording, or the ensemble of several.
        paths: The folders of the recordings.

    Returns:
        The paths, the fingerprint of the outputs, whether they are the teacher's own
        (float32, all logits, one teacher), and the trial of the teacher's run.
    """
    trial = recording.teacher.get("trial")
    return {
        "paths": [str(path.absolute()) for path in paths],
        "fingerprint": recording.fingerprint,
        "exact": not getattr(recording, "deviations", True),
        "teacher_trial": trial if _schema.NOT_NEGATIVE.accepts(trial) else 0,
    }


def source_of(loaded: LoadedNetwork, dataset: str | None) -> str:
    """Return the requested dataset, or else the one the network was trained on.

    Raises:
        ValueError: If there is neither.
    """
    source = dataset or loaded.dataset
    if source is None:
        raise InvalidInputError(
            "the run does not record the dataset of its network. Name it with "
            "--dataset.",
            argument="dataset",
        )
    return source


def save_network(
    out: Path,
    config: Config,
    module: nnx.Module,
    record: dict[str, Any],
    *,
    step: int = 0,
) -> None:
    """Save a network as a run folder that ``evaluate`` and ``distill`` can read.

    Args:
        out: The run folder to make.
        config: Contents of its ``config.json``, from :func:`make_config`.
        module: The network.
        record: JSON record of the checkpoint, such as ``{"history": []}``.
        step: Training step of the network.
    """
    folder = RunFolder(out)
    with nothing_left_behind(out):
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.config, config)
        training.Checkpoints(folder.checkpoints).save_network(module, record, step=step)
