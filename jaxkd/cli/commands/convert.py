"""``jaxkd convert``."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxkd import interchange, models, runs
from jaxkd._checks import check_width
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._messages import announce, say
from jaxkd._text import count
from jaxkd.cli._console import Console
from jaxkd.cli._header import network_of_header, normalization_of_header
from jaxkd.cli._options import Convert
from jaxkd.data import Normalization
from jaxkd.data._normalize import check_normalization

# Size, classes and normalization of the images that the published networks train on.
_CIFAR_SIZE, _CIFAR_CLASSES = 32, 100
_IMAGENET_SIZE = 224
_CIFAR100 = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def run(options: Convert, arguments: list[str]) -> None:
    """Convert a checkpoint into a run folder; write nothing before all is checked."""
    runs.check_out(options.out, resume=False)
    _check_options(options)
    announce(f"reading {options.checkpoint}")
    try:
        state = interchange.read_state_dict(options.checkpoint, key=options.key)
        state = interchange.rename(state, options.rename)
        header = interchange.read_metadata(options.checkpoint)
        options = _with_normalization(options, header)
        network, module = _load(options, state, header)
    except InvalidInputError as error:
        message = str(error)
        if str(options.checkpoint) not in message:
            message = f"{options.checkpoint}: {message}"
        raise InvalidInputError(message, argument=error.argument) from None
    _say_if_assumed(options, network)
    normalization = _normalization(options, network)
    names = _class_names(options, network.num_classes, header)

    config = runs.make_config(
        dataclasses.asdict(options),
        arguments,
        network,
        options.dataset,
        None,
        normalization,
    )
    config["class_names"] = names
    digest = _sha256(options.checkpoint)
    config["source"] = {"file": options.checkpoint.name, "sha256": digest}
    runs.save_network(options.out, config, module, {"history": []})
    parameters = sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))
    mean, std = (" ".join(f"{x:g}" for x in np.asarray(y)) for y in normalization)
    Console().tell(
        f"{network.model}, {_classes(network.num_classes)}, "
        f"images of {network.image_shape}, mean {mean}, std {std}, "
        f"{count(parameters, 'parameter')}, from {options.checkpoint.name} "
        f"(SHA-256 {digest[:12]}...); the run folder is {options.out}"
    )


def _check_options(options: Convert) -> None:
    """Check the options that do not depend on the file."""
    for name in ("image_size", "width"):
        value = getattr(options, name)
        if value is not None:
            check_width(**{name: value})
    if options.model is not None and options.model not in models.names():
        raise unknown_name("model", options.model, models.names())
    if (options.mean is None) != (options.std is None):
        raise InvalidInputError(
            "--mean and --std must be given together",
            argument="mean" if options.mean is None else "std",
        )


def _load(
    options: Convert, state: dict[str, np.ndarray], header: dict[str, Any]
) -> tuple[runs.NetworkConfig, nnx.Module]:
    """Find the network of a state dict, and load the state dict into it."""
    if header and options.model is None:
        network = network_of_header(header)
        if options.image_size is not None:
            shape = (options.image_size, options.image_size, network.image_shape[-1])
            network = dataclasses.replace(network, image_shape=shape)
        if options.width is not None:
            network = dataclasses.replace(network, width=options.width)
    else:
        network = _network_of_tensors(options, state)
    module = network.abstract()
    interchange.load_state_dict(module, state)
    return network, module


def _with_normalization(options: Convert, header: dict[str, Any]) -> Convert:
    """Take the normalization from the header of a file of `jaxkd export`."""
    if options.mean is not None or "normalization" not in header:
        return options
    mean, std = normalization_of_header(header)
    return dataclasses.replace(options, mean=mean, std=std)


def _network_of_tensors(
    options: Convert, state: dict[str, np.ndarray]
) -> runs.NetworkConfig:
    """Recognize the network by its tensors, and check that its images are known."""
    size = options.image_size or _CIFAR_SIZE
    found = _recognize(options, state, size)
    _require_images(options, found)
    return runs.NetworkConfig(
        model=found.name,
        width=options.width,
        compute_dtype="float32",
        num_classes=found.num_classes,
        image_shape=(size, size, found.in_channels),
    )


def _recognize(
    options: Convert, state: dict[str, np.ndarray], size: int
) -> interchange.Recognized:
    """Recognize the network, also if the size of its images is not given."""
    recognize = functools.partial(
        interchange.recognize,
        state,
        among=None if options.model is None else (options.model,),
        width=options.width,
    )
    try:
        return recognize(image_size=size)
    except InvalidInputError:
        if options.image_size is not None:
            raise
        # Networks with learned positions have other shapes for other images.
        with contextlib.suppress(InvalidInputError):
            return recognize(image_size=_IMAGENET_SIZE)
        raise


def _require_images(options: Convert, found: interchange.Recognized) -> None:
    """Raise if the images of a network are neither given nor those of CIFAR."""
    small = models.published_image_size(found.name) == _CIFAR_SIZE
    size = options.image_size or (_CIFAR_SIZE if small else None)
    missing = [] if size else ["image_size"]
    cifar = small and size == _CIFAR_SIZE and found.in_channels == 3
    if options.mean is None and not cifar:
        missing += ["mean", "std"]
    if missing:
        listed = {
            "image_size": "--image-size is",
            "mean": "--mean and --std are",
            "both": "--image-size, --mean and --std are",
        }["both" if len(missing) == 3 else missing[0]]
        raise InvalidInputError(
            f"{listed} required for images of {count(found.in_channels, 'channel')} "
            f"and size {size or 'unknown'}: give the values that the network "
            f"({found.name}) was trained with, --mean and --std for images in 0 to 1",
            argument=missing[0],
        )


def _say_if_assumed(options: Convert, network: runs.NetworkConfig) -> None:
    """Warn if the statistics of CIFAR-100 are used for a network of other classes."""
    if options.mean is None and network.num_classes != _CIFAR_CLASSES:
        say(
            "warning: --mean and --std are not given: those of CIFAR-100 are used, for "
            f"images of {_CIFAR_SIZE}x{_CIFAR_SIZE}. The network has "
            f"{_classes(network.num_classes)}; if it was trained on other images, "
            "convert it again with their values"
        )


def _normalization(options: Convert, network: runs.NetworkConfig) -> Normalization:
    """Return the normalization of the options, or the published one of CIFAR-100."""
    mean, std = options.mean, options.std
    if mean is None or std is None:
        mean, std = _CIFAR100
    given = Normalization(np.asarray(mean, np.float32), np.asarray(std, np.float32))
    check_normalization(given, channels=network.image_shape[-1], argument=None)
    return given


def _class_names(
    options: Convert, num_classes: int, header: dict[str, Any]
) -> list[str] | None:
    """Return the names of the classes from a file or the header; None if not known."""
    if options.class_names is None:
        names, where = header.get("class_names"), "the header of the file"
        if names is None:
            return None
    else:
        names, where = _read_names(options.class_names), f"{options.class_names}"
    if not isinstance(names, list) or not all(isinstance(x, str) for x in names):
        raise InvalidInputError(
            f"--class-names: {where} must contain a list of strings",
            argument="class_names",
        )
    twice = [name for name in names if names.count(name) > 1]
    problem = ""
    if len(names) != num_classes:
        problem = f"{count(len(names), 'name')}, but the network has "
        problem += _classes(num_classes)
    elif twice or not all(name.strip() for name in names):
        problem = f"the name {twice[0]!r} twice" if twice else "an empty name"
    if problem:
        raise InvalidInputError(
            f"--class-names: {where} has {problem}; give one name for each logit",
            argument="class_names",
        )
    return names


def _read_names(path: Path) -> Any:
    if not path.is_file():
        raise InvalidInputError(
            f"--class-names {path} is not a file", argument="class_names"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"--class-names {path} must be text in UTF-8 or a JSON list ({error})",
            argument="class_names",
        ) from None
    return [line.strip() for line in text.strip().splitlines()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _classes(number: int) -> str:
    return count(number, "class", "classes")
