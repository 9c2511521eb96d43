"""Run folders: config, metrics, checkpoints and plots of one training run."""

import dataclasses
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
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
        reused_features: How many features the teacher's classifier reads, where the
            student predicts with that (:class:`jaxkd.models.ReusedClassifier`).
    """

    model: str
    width: int | None
    compute_dtype: str
    num_classes: int
    image_shape: tuple[int, int, int]
    reused_features: int | None = None

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
        """Makes the network with fresh parameters, without a teacher's classifier."""
        return models.build(
            self.model,
            num_classes=self.num_classes,
            image_shape=self.image_shape,
            width=self.width,
            dtype=np.dtype(self.compute_dtype) if self.compute_dtype else None,
            rngs=rngs,
        )

    def trained_as(self, network: nnx.Module) -> "NetworkConfig":
        """How to build the network again that a method has made of this one."""
        if isinstance(network, models.ReusedClassifier):
            return dataclasses.replace(self, reused_features=network.features)
        return self

    def abstract(self) -> nnx.Module:
        """The network that was trained, as shapes to load a checkpoint into."""

        def build():
            network = self.build(nnx.Rngs(0))
            if self.reused_features is None:
                return network
            images = jnp.zeros((1, *self.image_shape))
            return models.ReusedClassifier(
                network,
                network(images).stages[-1].shape[-1],
                jnp.zeros((self.reused_features, self.num_classes)),
                jnp.zeros(self.num_classes),
                dtype=np.dtype(self.compute_dtype),
                rngs=nnx.Rngs(0),
            )

        return nnx.eval_shape(build)


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
        "dataset": {"source": source, "fingerprint": dataset.fingerprint},
        "versions": {
            "jaxkd": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


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


def load_network(run: Path) -> LoadedNetwork:
    """Reads the newest finished checkpoint of a run folder.

    Raises:
        ValueError: If the folder is not a run, or has no finished checkpoint.
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
    module = network.abstract()
    checkpoints.restore_network(module)
    mean, std = (np.float32(config["normalization"][k]) for k in ("mean", "std"))
    normalization = Normalization(mean, std)
    return LoadedNetwork(
        module, network, normalization, config["dataset"]["source"], step
    )


def read_config(run: Path) -> dict[str, Any]:
    try:
        return _json.strict(json.loads((run / CONFIG).read_text()))
    except FileNotFoundError:
        raise InvalidInputError(f"{run} is no run folder: it has no {CONFIG}") from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{run / CONFIG} is damaged: {error}") from error
