"""Run folders: config, metrics, checkpoints and plots of one training run."""

import dataclasses
import json
import os
import platform
import shlex
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from jaxkd import __version__, _json, training
from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.data import ImageDataset, Normalization, is_path
from jaxkd.runs import _lock
from jaxkd.runs._load import CONFIG as CONFIG
from jaxkd.runs._load import LoadedNetwork, NetworkConfig, load_run, read_config

Options = TypeVar("Options")


def check_out(out: Path, *, resume: bool, held: bool = False) -> None:
    """Refuses an output folder that is taken, or that holds nothing to resume.

    Args:
        out: The folder.
        resume: Whether a run is to be continued there.
        held: Whether this process has its lock.

    Raises:
        ValueError: Naming the folder and what to do.
    """
    if resume:
        if not (out / CONFIG).is_file():
            raise InvalidInputError(f"--resume: {out} holds no run to continue")
        if not held:
            _lock.check_free(out)
    elif out.exists() and (
        not out.is_dir() or any(path.name != _lock.FILE for path in out.iterdir())
    ):
        hint = "add --resume to continue it, or " if (out / CONFIG).is_file() else ""
        raise InvalidInputError(f"{out} exists already; {hint}choose another --out")


def make_config(
    options: dict[str, Any],
    arguments: list[str],
    network: NetworkConfig,
    source: str | None,
    dataset: ImageDataset | None,
    normalization: Normalization,
    *,
    teacher: dict[str, Any] | None = None,
    devices: int = 1,
) -> dict[str, Any]:
    """What goes into ``config.json``.

    Args:
        options: The command's options, by which a run that is resumed is known again.
        arguments: The command line.
        network: How the network is built.
        source: The dataset's name or file; None if it is not known.
        dataset: What was loaded from there; None if nothing was.
        normalization: What the network's images go through.
        teacher: Who taught the network (:func:`describe_teacher`), if anybody did.
        devices: How many devices it is trained on.
    """
    if source is not None and is_path(source):
        # So that it is found from anywhere.
        source = str(Path(source).expanduser().absolute())
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": shlex.join(["jaxkd", *arguments]),
        "options": json.loads(_json.dumps(options, default=str)),
        "network": dataclasses.asdict(network),
        "normalization": {
            "mean": np.asarray(normalization.mean, float).tolist(),
            "std": np.asarray(normalization.std, float).tolist(),
        },
        "dataset": {
            "source": source,
            "fingerprint": None if dataset is None else dataset.fingerprint,
        },
        "class_names": None if dataset is None else list(dataset.class_names),
        **({} if teacher is None else {"teacher": teacher}),
        "versions": {
            "jaxkd": __version__,
            "python": platform.python_version(),
            "device": jax.devices()[0].device_kind,
            "devices": devices,
            **{package: version(package) for package in packages},
        },
    }


def save_network(
    out: Path,
    config: dict[str, Any],
    module: nnx.Module,
    record: dict[str, Any],
    *,
    step: int = 0,
) -> None:
    """Makes a run folder of a network that `evaluate` and `distill --teacher` read."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, config)
    training.Checkpoints(out / "checkpoints").save_network(module, record, step=step)


def describe_teacher(
    run: Path, trial: int, teacher: training.FrozenNetwork
) -> dict[str, Any]:
    """What a student's ``config.json`` says of its teacher."""
    accuracy = None
    summary = run / "summary.json"
    if summary.is_file():
        trials = json.loads(summary.read_text()).get("trials", {})
        values = trials.get("test_accuracy_last", {}).get("values", [])
        accuracy = values[trial] if trial < len(values) else None
    return {
        "network": read_config(run)["network"],
        "test_accuracy": accuracy,
        "fingerprint": _fingerprint(teacher),
    }


def _fingerprint(teacher: training.FrozenNetwork) -> str:
    """A checksum of all that a teacher has learnt."""
    checksum = 0
    for leaf in jax.tree.leaves(teacher.variables):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    return f"{checksum:08x}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file that is either whole or not there."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w") as file:
            file.write(_json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def load_network(run: Path, *, trial: int = 0) -> LoadedNetwork:
    """:func:`jaxkd.runs.load_run`, its warnings said on stderr."""
    return load_run(run, trial=trial, warn=lambda x: say(f"warning: {x}"))


def source_of(loaded: LoadedNetwork, dataset: str | None) -> str:
    """The dataset that was asked for, or the network's own.

    Raises:
        ValueError: If there is neither.
    """
    source = dataset or loaded.dataset
    if source is None:
        raise InvalidInputError(
            "the run does not say what its network was trained on; name the data "
            "with --dataset"
        )
    return source


def as_options(kind: type[Options], stored: dict[str, Any]) -> Options:
    """Options that a ``config.json`` holds; JSON has lists for their tuples."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return kind(**values)
