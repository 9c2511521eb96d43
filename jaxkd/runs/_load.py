"""Run folders, read: from a folder to the network that was trained there."""

import dataclasses
import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import _json, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.data import ImageDataset, Normalization

CONFIG = "config.json"

# What jaxkd.data writes into the fingerprint of images that were brought to a size.
_SIZE = re.compile(r", size (\d+)")


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


def load_run(
    path: str | os.PathLike,
    *,
    trial: int = 0,
    warn: Callable[[str], None] = warnings.warn,
) -> LoadedNetwork:
    """Reads a trained network from its run folder: the newest intact checkpoint.

    The folder is one of ``jaxkd train``, ``distill`` or ``convert``, and stays as it
    is. To teach, the network is frozen with the normalisation it was trained with:
    ``training.freeze_teacher(loaded.module, loaded.normalization)``.

    Args:
        path: The folder.
        trial: Which of the students, in a run of several.
        warn: Told of each newer checkpoint that is damaged.

    Returns:
        The network, and what its run says of it.

    Raises:
        InvalidInputError: If the folder is not a run, has no intact checkpoint, or no
            such trial.
    """
    run = Path(path).expanduser()
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
        warn(
            f"the checkpoint of step {newer} in {run} is damaged ({reason}); "
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
        dataset=config["dataset"]["source"],
        class_names=None if names is None else tuple(names),
        step=step,
        image_size=options.get("data", {}).get("image_size"),
        averaged=record.get("averaged", False),
        trial=trial,
        trials=options.get("trials", 1),
        seed=None if seed is None else seed + trial,
    )


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a run folder's ``config.json``.

    Older students that took the image size of their teacher did not say so among their
    options. The fingerprint of what they learnt from does, and it is put there.

    Raises:
        InvalidInputError: If it is not there or damaged.
    """
    run = Path(path).expanduser()
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
