"""``jaxkd convert``."""

import dataclasses
import hashlib
import math
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jaxkd import interchange, models, runs
from jaxkd._checks import check_at_least
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.cli._console import Console
from jaxkd.cli._options import Convert
from jaxkd.data import Normalization
from jaxkd.runs import _folder

# What the published networks' training images went through.
_CIFAR_SIZE = 32
_CIFAR100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def run(options: Convert, arguments: list[str]) -> None:
    """Makes a run folder of a checkpoint; checks everything before it writes."""
    _folder.check_out(options.out, resume=False)
    check_at_least(1, image_size=options.image_size)
    if options.width is not None:
        check_at_least(1, width=options.width)
    if options.model is not None and options.model not in models.names():
        raise unknown_name("model", options.model, models.names())
    state = interchange.read_state_dict(options.checkpoint)
    try:
        network, module = _network(options, state)
    except InvalidInputError as error:
        raise InvalidInputError(f"{options.checkpoint}: {error}") from None
    normalization = _normalization(options, network.image_shape[-1])

    config = _folder.make_config(
        dataclasses.asdict(options),
        arguments,
        network,
        options.dataset,
        None,
        normalization,
    )
    digest = _sha256(options.checkpoint)
    config["source"] = {"file": options.checkpoint.name, "sha256": digest}
    _folder.save_network(options.out, config, module, {"history": []})
    parameters = sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))
    mean, std = (" ".join(f"{x:g}" for x in np.asarray(y)) for y in normalization)
    Console().print(
        f"{network.model}, {network.num_classes} classes, "
        f"images of {network.image_shape}, mean {mean}, std {std}, "
        f"{parameters:,} parameters, from {options.checkpoint.name} "
        f"(SHA-256 {digest[:12]}...); everything is in {options.out}",
        highlight=False,
        soft_wrap=True,
    )


def _network(
    options: Convert, state: dict[str, np.ndarray]
) -> tuple[runs.NetworkConfig, nnx.Module]:
    """The network that a state dict belongs to, filled with it."""
    found = interchange.recognise(
        state,
        among=None if options.model is None else (options.model,),
        width=options.width,
        image_size=options.image_size,
    )
    network = runs.NetworkConfig(
        model=found.name,
        width=options.width,
        compute_dtype="float32",
        num_classes=found.num_classes,
        image_shape=(options.image_size, options.image_size, found.in_channels),
    )
    module = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    interchange.load_state_dict(module, state)
    return network, module


def _normalization(options: Convert, channels: int) -> Normalization:
    mean, std = options.mean, options.std
    if mean is None and std is None:
        if channels != 3 or options.image_size != _CIFAR_SIZE:
            raise InvalidInputError(
                f"the network takes images of {channels} channels and size "
                f"{options.image_size}; say what it was trained with by --mean and "
                "--std, one number for each channel"
            )
        mean, std = _CIFAR100
    if mean is None or std is None:
        raise InvalidInputError("--mean and --std must be given together")
    for name, values in (("--mean", mean), ("--std", std)):
        if len(values) != channels or not all(map(math.isfinite, values)):
            raise InvalidInputError(
                f"{name} must be a number for each of the network's {channels} "
                f"channels, got {' '.join(map(str, values))}"
            )
    if min(std) <= 0:
        raise InvalidInputError(f"--std must be positive, got {min(std)}")
    return Normalization(np.asarray(mean, np.float32), np.asarray(std, np.float32))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
