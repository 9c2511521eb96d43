"""Channel statistics of the training images, and normalization by them."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Int, Shaped

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data._range import OVERSHOOT
from jaxkd.data._stream import Streamed, chunks

# A channel whose standard deviation is below this share of its mean is constant up to
# the rounding of float32. Dividing by it would only magnify the rounding errors.
_CONSTANT_CHANNEL = 1e-6


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel of images scaled to [0, 1]."""

    mean: Float[ArrayLike, " channels"]
    std: Float[ArrayLike, " channels"]


def check_normalization(
    normalization: Normalization,
    *,
    channels: int | None = None,
    argument: str | None = "normalization",
) -> None:
    """Check that a normalization is one of images that are scaled to 0 to 1.

    Args:
        normalization: The normalization.
        channels: Number of channels of the images; any if None.
        argument: Name of the normalization in errors. If None, the errors are about the
            arguments ``mean`` and ``std``.

    Raises:
        InvalidInputError: If the numbers of values do not fit, a mean is not in 0 to 1,
            or a standard deviation is not positive and at most 1.
    """
    lengths = []
    for part, given in zip(("mean", "std"), normalization, strict=True):
        name = f"{argument}.{part}" if argument else part
        where = argument or part
        try:
            values = np.asarray(given, np.float64)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{name} must be numbers, one for each channel, got {given!r}",
                argument=where,
            ) from None
        if values.ndim != 1 or values.size != (channels or max(1, values.size)):
            count = "each channel" if channels is None else f"each of the {channels}"
            raise InvalidInputError(
                f"{name} must have one number for {count}"
                f"{' channels' if channels else ''}, got shape {values.shape}",
                argument=where,
            )
        _check_scale(part, values, name, where)
        lengths.append(values.size)
    if lengths[0] != lengths[1]:
        raise InvalidInputError(
            f"{argument or 'mean'} has {lengths[0]} means, but {lengths[1]} standard "
            "deviations: give one of each for each channel",
            argument=argument or "mean",
        )


def _check_scale(part: str, values: np.ndarray, name: str, argument: str) -> None:
    """Raise unless the values can be those of images in 0 to 1."""
    finite = np.isfinite(values).all()
    if part == "mean":
        rule = "must lie in 0 to 1"
        right = finite and (values >= -OVERSHOOT).all()
    else:
        # That of a constant channel is 1.
        rule = "must be positive and at most 1"
        right = finite and (values > 0).all()
    if right and (values <= 1 + OVERSHOOT).all():
        return
    words = lambda numbers: " ".join(f"{x:.4g}" for x in numbers)
    remedy = ""
    if right:
        top = 255 if values.max() <= 255 else 65535
        remedy = f": divide by {top}: {words(values / top)}"
    raise InvalidInputError(
        f"{name} {rule}, because images are scaled to 0 to 1, got "
        f"{' '.join(f'{x:g}' for x in values)}{remedy}",
        argument=argument,
    )


def channel_statistics(
    images: Shaped[np.ndarray, "rows height width channels"] | Streamed,
) -> Normalization:
    """Compute the mean and population standard deviation of each channel in float64.

    The rows are read in chunks, once for uint8 and twice for floating-point images, so
    a memory-mapped array does not have to fit in memory.

    Args:
        images: Training images, uint8 (0 to 255) or floating point. Streamed images are
            not read if their statistics are known.

    Returns:
        The statistics in float32, with uint8 values divided by 255. The standard
        deviation of a constant channel is 1, so that it is normalized to zero.

    Raises:
        TypeError: If the images are neither uint8 nor floating point.
        InvalidInputError: If the images are empty.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
        >>> data.channel_statistics(images)
        Normalization(mean=array([0.5], dtype=float32), std=array([0.5], dtype=float32))
    """
    if isinstance(images, Streamed) and images.statistics is not None:
        return Normalization(*images.statistics)
    if 0 in images.shape:
        raise InvalidInputError(
            f"images must not be empty, got shape {images.shape}", argument="images"
        )
    channels = images.shape[-1]
    count = math.prod(images.shape[:-1])
    if images.dtype == np.uint8:
        # The histogram determines the statistics exactly.
        total = np.zeros((channels, 256), np.int64)
        for chunk in chunks(images):
            total += histogram(chunk)
        return statistics_of_histogram(total, count)
    if jnp.issubdtype(images.dtype, jnp.floating):
        axes, total, squares = (0, 1, 2), np.zeros(channels), np.zeros(channels)
        for chunk in chunks(images):
            total += chunk.astype(np.float64).sum(axes)
        mean = total / count
        for chunk in chunks(images):
            squares += np.square(chunk.astype(np.float64) - mean).sum(axes)
        std = np.sqrt(squares / count)
    else:
        raise InvalidTypeError(
            f"images must be uint8 or floating point, got dtype {images.dtype}",
            argument="images",
        )
    return _rounded(mean, std)


def histogram(
    images: Shaped[np.ndarray, "rows height width channels"],
) -> Int[np.ndarray, "channels 256"]:
    """Count each value of uint8 images in each channel."""
    return np.stack(
        [
            np.bincount(images[..., channel].ravel(), minlength=256)
            for channel in range(images.shape[-1])
        ]
    ).astype(np.int64)


def statistics_of_histogram(
    histogram: Int[np.ndarray, "channels 256"], count: int
) -> Normalization:
    """Compute :func:`channel_statistics` of uint8 images from their histogram.

    Args:
        histogram: Histogram of all images.
        count: Number of values per channel.

    Returns:
        The statistics.
    """
    levels = np.arange(256) / 255
    mean = histogram @ levels / count
    squares = (levels - mean[:, None]) ** 2
    return _rounded(mean, np.sqrt(np.sum(histogram * squares, axis=1) / count))


def _rounded(mean: np.ndarray, std: np.ndarray) -> Normalization:
    std = np.where(std <= _CONSTANT_CHANNEL * np.abs(mean), 1.0, std)
    return Normalization(mean.astype(np.float32), std.astype(np.float32))


def normalize(
    images: Shaped[ArrayLike, "*batch height width channels"],
    normalization: Normalization,
) -> Float32[Array, "*batch height width channels"]:
    r"""Shift and scale each channel: :math:`(x - \mu) / \sigma`.

    Args:
        images: uint8 images, which are divided by 255 first, or floating-point images.
        normalization: :func:`channel_statistics` of the training images.

    Returns:
        The normalized images in float32.

    Raises:
        TypeError: If the images are neither uint8 nor floating point.
        InvalidInputError: If images and statistics have different numbers of channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import data
        >>> images = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
        >>> half = data.Normalization(mean=jnp.array([0.5]), std=jnp.array([0.5]))
        >>> print(data.normalize(images, half).ravel())
        [-1.  1.]
    """
    x = jnp.asarray(images)
    if x.dtype == jnp.uint8:
        x = x.astype(jnp.float32) / 255
    elif jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float32)
    else:
        raise InvalidTypeError(
            f"images must be uint8 or floating point, got dtype {x.dtype}",
            argument="images",
        )
    mean, std = (jnp.asarray(value, jnp.float32) for value in normalization)
    if mean.shape != x.shape[-1:] or std.shape != x.shape[-1:]:
        raise InvalidInputError(
            f"normalization must have one mean and std for each of the {x.shape[-1]} "
            f"channels, got {mean.shape} and {std.shape}",
            argument="normalization",
        )
    axes = tuple(range(x.ndim - 1))
    return (x - jnp.expand_dims(mean, axes)) / jnp.expand_dims(std, axes)
