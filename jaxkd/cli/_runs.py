"""Run folders: config, metrics, checkpoints and plots of one training run."""

import dataclasses
import json
import os
import platform
import re
import shlex
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import __version__, _json, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.cli import _lock
from jaxkd.cli._messages import say
from jaxkd.data import ImageDataset, Normalization, is_path

CONFIG = "config.json"

# What jaxkd.data writes into the fingerprint of images that were brought to a size.
_SIZE = re.compile(r", size (\d+)")

Options = TypeVar("Options")


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
        dataset: What it was trained on, as ``jaxkd.data.load`` takes it; None if the
            run does not say.
        class_names: What its logits stand for; None if the run does not say.
        step: The step of the checkpoint that was read.
        image_size: What ``jaxkd.data.load`` was told to bring its images to.
        averaged: Whether its variables are the moving average of those trained.
        trial: Which of the run's students this is.
        trials: How many there are.
        seed: What it was trained with; None if the run does not say.
    """

    module: nnx.Module
    network: NetworkConfig
    normalization: Normalization
    dataset: str | None
    class_names: tuple[str, ...] | None
    step: int
    image_size: int | None = None
    averaged: bool = False
    trial: int = 0
    trials: int = 1
    seed: int | None = None

    @property
    def version(self) -> str:
        """Which of the run's networks this is, in words."""
        said = f"step {self.step}"
        if self.trials > 1:
            said += f", trial {self.trial}, seed {self.seed}"
        return said + (", averaged weights" if self.averaged else "")

    def source(self, dataset: str | None) -> str:
        """The dataset that was asked for, or the network's own.

        Raises:
            ValueError: If there is neither.
        """
        source = dataset or self.dataset
        if source is None:
            raise InvalidInputError(
                "the run does not say what its network was trained on; name the data "
                "with --dataset"
            )
        return source


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
    """Reads the newest intact checkpoint of a run folder; leaves the folder as it is.

    Args:
        run: The folder.
        trial: Which of the students, in a run of several.

    Raises:
        ValueError: If the folder is not a run, has no intact checkpoint, or no such
            trial.
    """
    if not run.is_dir():
        raise InvalidInputError(f"there is no run folder {run}")
    config = read_config(run)
    checkpoints = training.Checkpoints(run / "checkpoints")
    if not checkpoints.steps():
        raise InvalidInputError(
            f"{run} has no finished checkpoint; finish its training first (--resume)"
        )
    checkpoints.refuse_damaged()
    step = checkpoints.latest()
    assert step is not None
    for newer, reason in checkpoints.damaged():
        say(
            f"warning: the checkpoint of step {newer} in {run} is damaged ({reason}); "
            f"that of step {step} is used"
        )
    stored = config["network"]
    network = NetworkConfig(**{**stored, "image_shape": tuple(stored["image_shape"])})
    module = network.abstract()
    record = checkpoints.restore_network(module, trial=trial)
    mean, std = (np.float32(config["normalization"][k]) for k in ("mean", "std"))
    normalization = Normalization(mean, std)
    names, options = config.get("class_names"), config["options"]
    seed = options.get("seed")
    return LoadedNetwork(
        module,
        network,
        normalization,
        config["dataset"]["source"],
        None if names is None else tuple(names),
        step,
        options.get("data", {}).get("image_size"),
        record.get("averaged", False),
        trial,
        options.get("trials", 1),
        None if seed is None else seed + trial,
    )


def as_options(kind: type[Options], stored: dict[str, Any]) -> Options:
    """Options that a ``config.json`` holds; JSON has lists for their tuples."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return kind(**values)


def read_config(run: Path) -> dict[str, Any]:
    """The content of ``config.json``.

    Older students that took the image size of their teacher did not say so among their
    options. The fingerprint of what they learnt from does, and it is put there.

    Raises:
        ValueError: If it is not there or damaged.
    """
    try:
        config = _json.strict(json.loads((run / CONFIG).read_text()))
    except FileNotFoundError:
        raise InvalidInputError(f"{run} is no run folder: it has no {CONFIG}") from None
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{run / CONFIG} is damaged: {error}") from error
    options = config.get("options", {}).get("data", {})
    size = _SIZE.search(config.get("dataset", {}).get("fingerprint") or "")
    if size is not None and options.get("image_size") is None:
        options["image_size"] = int(size[1])
    return config
