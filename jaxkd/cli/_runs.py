"""Run folders: config, metrics, checkpoints and plots of one training run."""

import dataclasses
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxkd import __version__, _json, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.data import ImageDataset, Normalization

CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """All that it takes to build a network again.

    Attributes:
        model: Name in the model registry.
        width: Base number of channels, or None for the published one.
        compute_dtype: Dtype of its arithmetic.
        num_classes: Number of classes.
        image_shape: Height, width, channels.
    """

    model: str
    width: int | None
    compute_dtype: str
    num_classes: int
    image_shape: tuple[int, int, int]

    @classmethod
    def for_dataset(
        cls, dataset: ImageDataset, model: str, width: int | None, compute_dtype: str
    ) -> "NetworkConfig":
        """A network that fits a dataset's images and classes."""
        height, wide, channels = dataset.train.images.shape[1:]
        return cls(
            model, width, compute_dtype, dataset.num_classes, (height, wide, channels)
        )

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """Makes the network with fresh parameters."""
        return models.build(
            self.model,
            num_classes=self.num_classes,
            image_shape=self.image_shape,
            width=self.width,
            dtype=np.dtype(self.compute_dtype) if self.compute_dtype else None,
            rngs=rngs,
        )


class LoadedNetwork(NamedTuple):
    """A trained network, read from its run folder.

    Attributes:
        module: The network with its trained variables.
        network: How it was built.
        normalization: What its images go through.
        dataset: What it was trained on, as ``jaxkd.data.load`` takes it.
        step: The step of the checkpoint that was read.
    """

    module: nnx.Module
    network: NetworkConfig
    normalization: Normalization
    dataset: str
    step: int


def check_out(out: Path, *, resume: bool) -> None:
    """Refuses an output folder that is taken, or that holds nothing to resume.

    Raises:
        ValueError: Naming the folder and what to do.
    """
    if resume:
        if not (out / CONFIG).is_file():
            raise InvalidInputError(f"--resume: {out} holds no run to continue")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        hint = "add --resume to continue it, or " if (out / CONFIG).is_file() else ""
        raise InvalidInputError(f"{out} exists already; {hint}choose another --out")


def make_config(
    options: dict[str, Any],
    arguments: list[str],
    network: NetworkConfig,
    source: str,
    dataset: ImageDataset,
    normalization: Normalization,
    *,
    teacher: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What goes into ``config.json``."""
    if Path(source).suffix == ".npz":
        source = str(Path(source).absolute())  # so that it is found from anywhere
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": " ".join(["jaxkd", *arguments]),
        "options": json.loads(_json.dumps(options, default=str)),
        "network": dataclasses.asdict(network),
        "normalization": {
            "mean": np.asarray(normalization.mean, float).tolist(),
            "std": np.asarray(normalization.std, float).tolist(),
        },
        **({} if teacher is None else {"teacher": teacher}),
        "dataset": {"source": source, "fingerprint": dataset.fingerprint},
        "versions": {
            "jaxkd": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def describe_teacher(run: Path, trial: int) -> dict[str, Any]:
    """What a student's ``config.json`` says of its teacher."""
    accuracy = None
    summary = run / "summary.json"
    if summary.is_file():
        trials = json.loads(summary.read_text()).get("trials", {})
        values = trials.get("test_accuracy_last", {}).get("values", [])
        accuracy = values[trial] if trial < len(values) else None
    return {"network": read_config(run)["network"], "test_accuracy": accuracy}


def check_same_experiment(out: Path, config: dict[str, Any]) -> None:
    """Refuses to resume a run under other settings or on other data.

    Raises:
        ValueError: Listing what differs.
    """
    before = read_config(out)
    differences = [
        f"{section} {key} was {before[section].get(key)!r}, is {value!r}"
        for section in ("options", "network", "dataset")
        for key, value in json.loads(json.dumps(config[section])).items()
        if before[section].get(key) != value
    ]
    if differences:
        raise InvalidInputError(
            f"--resume: {out} was started with other settings: "
            + "; ".join(differences)
        )


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
    """Reads the newest finished checkpoint of a run folder.

    Args:
        run: The folder.
        trial: Which of the students, in a run of several.

    Raises:
        ValueError: If the folder is not a run, has no finished checkpoint, or no such
            trial.
    """
    if not run.is_dir():
        raise InvalidInputError(f"there is no run folder {run}")
    config = read_config(run)
    checkpoints = training.Checkpoints(run / "checkpoints")
    step = checkpoints.latest()
    if step is None:
        raise InvalidInputError(
            f"{run} has no finished checkpoint; finish its training first (--resume)"
        )
    stored = config["network"]
    network = NetworkConfig(**{**stored, "image_shape": tuple(stored["image_shape"])})
    module = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    checkpoints.restore_network(module, trial=trial)
    mean, std = (np.float32(config["normalization"][k]) for k in ("mean", "std"))
    normalization = Normalization(mean, std)
    return LoadedNetwork(
        module, network, normalization, config["dataset"]["source"], step
    )


def read_config(run: Path) -> dict[str, Any]:
    """The content of ``config.json``.

    Raises:
        ValueError: If it is not there or damaged.
    """
    try:
        return _json.strict(json.loads((run / CONFIG).read_text()))
    except FileNotFoundError:
        raise InvalidInputError(f"{run} is no run folder: it has no {CONFIG}") from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{run / CONFIG} is damaged: {error}") from error
