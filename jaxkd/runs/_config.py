"""``config.json``: what it contains, how it is written and read."""

import dataclasses
import json
import os
import platform
import shlex
from importlib.metadata import version
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import __version__, _json, models
from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd.data import ImageDataset, Normalization, is_path
from jaxkd.runs import _schema
from jaxkd.runs._files import read_json
from jaxkd.runs._folder import RunFolder

LOAD_OPTIONS = (
    *("image_size", "train_split", "test_split"),
    *("background", "value_range", "test_resize"),
)
"""Arguments of :func:`jaxkd.data.load` that decide what a dataset contains."""

Options = TypeVar("Options")
Config = dict[str, Any]

# Options that do not change the training: where files are, how often they are saved,
# and what is made of a run. Teacher, dataset and initial weights are
# identified by their contents.
_NO_EFFECT = (
    *("out", "resume", "checkpoint_every", "checkpoint_minutes"),
    *("teacher", "recorded", "init", "new_classifier", "unlabeled"),
    *("report", "profile", "wandb", "devices", "remat"),
)
_NO_EFFECT_DATA = ("data_dir", "cache_dir", "stream", "workers")

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to build a run's network again.

    Attributes:
        model: Name of the architecture, as in :func:`jaxkd.models.names`.
        width: Base number of channels, or None for the published one.
        compute_dtype: Dtype of the computation, such as ``"float32"``.
        num_classes: Number of classes.
        image_shape: Height, width and channels of its images.
        reused_features: Number of features that the teacher's classifier reads, if the
            student predicts with that classifier
            (:class:`jaxkd.models.ReusedClassifier`); otherwise None.
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
        """Describe a network that fits a dataset's images and classes."""
        rows, columns, channels = dataset.train.images.shape[1:]
        return cls(
            model, width, compute_dtype, dataset.num_classes, (rows, columns, channels)
        )

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """Build the network with new parameters, without a teacher's classifier."""
        return models.build(
            self.model,
            num_classes=self.num_classes,
            image_shape=self.image_shape,
            width=self.width,
            dtype=np.dtype(self.compute_dtype) if self.compute_dtype else None,
            rngs=rngs,
        )

    def trained_as(self, network: nnx.Module) -> "NetworkConfig":
        """Describe the network that a method trains in place of this one."""
        if isinstance(network, models.ReusedClassifier):
            return dataclasses.replace(self, reused_features=network.features)
        return self

    def abstract(self) -> nnx.Module:
        """Return the trained network with shapes in place of arrays."""

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


def make_config(
    options: dict[str, Any],
    arguments: list[str],
    network: NetworkConfig,
    source: str | None,
    dataset: ImageDataset | None,
    normalization: Normalization,
    *,
    teacher: dict[str, Any] | None = None,
    initial: dict[str, Any] | None = None,
    recording: dict[str, Any] | None = None,
    devices: int = 1,
) -> Config:
    """Make the contents of ``config.json``.

    Args:
        options: The command's options. To resume a run, they must be the same again,
            apart from those that do not affect training.
        arguments: The command line.
        network: How to build the network.
        source: Name or path of the dataset; None if it is not known.
        dataset: The dataset that was loaded from there; None if none was.
        normalization: Normalization of the network's images.
        teacher: Description of the teacher, from :func:`describe_teacher`; None if
            there is no teacher.
        initial: Description of the weights that the network starts from
            (network and fingerprint); None if they are random.
        recording: Description of the teacher's recorded outputs, from
            :func:`describe_recording`; None if its network taught, or there is none.
        devices: Number of devices that train the network.
    """
    if source is not None and is_path(source):
        # An absolute path can be loaded from any working directory.
        source = str(expand_home(source, "source").absolute())
    loaded_with = options.get("data", {})
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
            **{name: loaded_with.get(name) for name in LOAD_OPTIONS},
        },
        "class_names": None if dataset is None else list(dataset.class_names),
        **({} if teacher is None else {"teacher": teacher}),
        **({} if initial is None else {"initial": initial}),
        **({} if recording is None else {"recording": recording}),
        "versions": {
            "jaxkd": __version__,
            "python": platform.python_version(),
            "device": jax.devices()[0].device_kind,
            "devices": devices,
            **{package: version(package) for package in _PACKAGES},
        },
    }


def read_config(path: str | os.PathLike) -> Config:
    """Read the ``config.json`` of a run folder.

    Configurations that older versions wrote are completed to the current form.

    Args:
        path: The run folder.

    Raises:
        InvalidInputError: If there is no ``config.json``, or an entry cannot be used.
            The message names the entry, its value and what was expected.
    """
    folder = RunFolder.at(path)
    try:
        config = _json.strict(read_json(folder.config))
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInputError(
            f"{folder.path} is not a run folder: it has no {folder.config.name}. "
            "`jaxkd train`, `distill` and `convert` make run folders.",
            argument="path",
        ) from None
    _schema.check(folder.config, config, _schema.CONFIG)
    _schema.check_network(folder.config, config)
    _complete_old_config(config)
    return config


def _complete_old_config(config: Config) -> None:
    """Add the entries that older versions did not write, in place.

    They kept the weights of methods constant. They left out ``dataset.image_size``. The
    oldest also left it out of a student's
    options if the size came from the teacher. There, the only record is the dataset's
    fingerprint: ``<source>:<digest>, size <pixels>, <subset>``.
    """
    config.setdefault("command", "")
    config.setdefault("versions", {})
    if "teacher" in config:
        config["teacher"].setdefault("test_accuracy", None)
        config["teacher"]["network"].setdefault("width", None)
    if "method" in config["options"]:
        config["options"].setdefault("weight_warmup", {})
        config["options"].setdefault("weight_ramp", "constant")
        for role in ("student", "teacher"):
            config["options"].setdefault(f"{role}_layers", [])
            config["options"].setdefault(f"{role}_embedding", None)
    dataset = config["dataset"]
    dataset.setdefault("fingerprint", None)
    options = config["options"].get("data", {})
    if "image_size" not in dataset:
        size = options.get("image_size")
        for part in (dataset["fingerprint"] or "").split(", ")[1:]:
            word, _, pixels = part.partition(" ")
            if size is None and word == "size" and _is_size(pixels):
                size = int(pixels)
        dataset["image_size"] = size
    if options.get("image_size") is None:
        options["image_size"] = dataset["image_size"]


def _is_size(pixels: str) -> bool:
    return pixels.isascii() and pixels.isdecimal() and 0 < len(pixels) < 7


def effective_options(config: Config) -> dict[str, Any]:
    """Return a copy of the options without those that do not affect training."""
    options = {k: v for k, v in config["options"].items() if k not in _NO_EFFECT}
    if "data" in options:
        kept = {k: v for k, v in options["data"].items() if k not in _NO_EFFECT_DATA}
        options["data"] = kept
    return options


def as_options(kind: type[Options], stored: dict[str, Any]) -> Options:
    """Build an options object from its JSON form, with tuples in place of lists.

    Options that this version does not have are ignored.
    """
    names = {field.name for field in dataclasses.fields(kind)}  # pyright: ignore
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return kind(**{name: values[name] for name in names & values.keys()})
