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

# Size and normalization of the images that the published networks train on.
_CIFAR_SIZE = 32
_CIFAR100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def run(options: Convert, arguments: list[str]) -> None:
    """Convert a checkpoint into a run folder; write nothing before all is checked."""
    runs.check_out(options.out, resume=False)
    check_at_least(1, image_size=options.image_size)
    if options.width is not None:
        check_at_least(1, width=options.width)
    if options.model is not None and options.model not in models.names():
        raise unknown_name("model", options.model, models.names())
    state = interchange.read_state_dict(options.checkpoint)
    try:
        network, module = _load(options, state)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{options.checkpoint}: {error}", argument=error.argument
        ) from None
    normalization = _normalization(options, network.image_shape[-1])

    config = runs.make_config(
        dataclasses.asdict(options),
        arguments,
        network,
        options.dataset,
        None,
        normalization,
    )
    digest = _sha256(options.checkpoint)
    config["source"] = {"file": options.checkpoint.name, "sha256": digest}
    runs.save_network(options.out, config, module, {"history": []})
    parameters = sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))
    mean, std = (" ".join(f"{x:g}" for x in np.asarray(y)) for y in normalization)
    Console().tell(
        f"{network.model}, {network.num_classes} classes, "
        f"images of {network.image_shape}, mean {mean}, std {std}, "
        f"{parameters:,} parameters, from {options.checkpoint.name} "
        f"(SHA-256 {digest[:12]}...); the run folder is {options.out}"
    )


def _load(
    options: Convert, state: dict[str, np.ndarray]
) -> tuple[runs.NetworkConfig, nnx.Module]:
    """Recognize the network of a state dict, and load the state dict into it."""
    found = interchange.recognize(
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
    """Return the normalization of the options, or the published one of CIFAR-100."""
    mean, std = options.mean, options.std
    if mean is None and std is None:
        if channels != 3 or options.image_size != _CIFAR_SIZE:
            raise InvalidInputError(
                f"--mean and --std are required for images of {channels} channels and "
                f"size {options.image_size}: give the values the network was trained "
                "with, one number per channel",
                argument="mean",
            )
        mean, std = _CIFAR100
    if mean is None or std is None:
        raise InvalidInputError(
            "--mean and --std must be given together",
            argument="mean" if mean is None else "std",
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels or not all(map(math.isfinite, values)):
            raise InvalidInputError(
                f"--{name} must be one finite number per channel of the network, which "
                f"has {channels}, got {' '.join(map(str, values))}",
                argument=name,
            )
    if min(std) <= 0:
        raise InvalidInputError(
            f"--std must be positive, got {min(std)}", argument="std"
        )
    return Normalization(np.asarray(mean, np.float32), np.asarray(std, np.float32))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
