"""The header of a safetensors file of ``jaxkd export``."""

from typing import Any

from jaxkd import models, runs
from jaxkd._errors import InvalidInputError


def network_of_header(header: dict[str, Any]) -> runs.NetworkConfig:
    """Return the network that a header describes.

    Raises:
        InvalidInputError: If the header is damaged.
    """
    model, shape = header.get("model"), header.get("image_shape")
    width, features = header.get("width"), header.get("reused_features")
    classes: Any = header.get("num_classes")
    if not isinstance(model, str) or model not in models.names():
        raise _header_error(f"it names the unknown model {model!r}")
    if not isinstance(shape, list) or len(shape) != 3:
        raise _header_error(f"its image_shape must be three numbers, got {shape!r}")
    numbers = [classes, *shape, *(x for x in (width, features) if x is not None)]
    if not all(type(x) is int and x > 0 for x in numbers):
        raise _header_error(f"its sizes must be positive integers, got {numbers}")
    rows, columns, channels = shape
    return runs.NetworkConfig(
        model=model,
        width=width,
        compute_dtype="float32",
        num_classes=classes,
        image_shape=(rows, columns, channels),
        reused_features=features,
    )


def normalization_of_header(
    header: dict[str, Any],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel.

    Raises:
        InvalidInputError: If the header is damaged.
    """
    try:
        mean, std = (header["normalization"][name] for name in ("mean", "std"))
        return tuple(map(float, mean)), tuple(map(float, std))
    except (KeyError, TypeError, ValueError):
        raise _header_error("its normalization has no numbers mean and std") from None


def _header_error(problem: str) -> InvalidInputError:
    return InvalidInputError(
        f"the header of the file is damaged: {problem}; export the network again",
        argument="checkpoint",
    )
