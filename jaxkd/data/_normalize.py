"""Statistics of the training images and normalisation by them."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Int, Shaped

from jaxkd._errors import InvalidInputError
from jaxkd.data._dataset import chunks
from jaxkd.data._stream import Streamed

# A channel whose standard deviation is below this share of its mean is constant up to
# the rounding of float32: dividing by it would only magnify that rounding.
_CONSTANT = 1e-6


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel, images scaled to [0, 1]."""

    mean: Float[ArrayLike, " channels"]
    std: Float[ArrayLike, " channels"]


def channel_statistics(
    images: Shaped[np.ndarray, "rows height width channels"] | Streamed,
) -> Normalization:
    """Computes mean and population standard deviation of each channel in float64.

    Reads the rows once for uint8, twice for floating images, in chunks: a
    memory-mapped array never has to fit in memory.

    Args:
        images: Training images, uint8 (0 to 255) or floating point; streamed ones are
            not read if their statistics are known.

    Returns:
        The statistics in float32, uint8 values counted as fractions of 255. A constant
        channel gets standard deviation 1, so that it normalises to zero.

    Raises:
        TypeError: If the images are neither uint8 nor floating point.
        InvalidInputError: If there are none.

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
        raise InvalidInputError(f"images must not be empty, got shape {images.shape}")
    channels = images.shape[-1]
    count = math.prod(images.shape[:-1])
    if images.dtype == np.uint8:
        # Exact: the histogram holds all there is to know.
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
        raise TypeError(
            f"images must be uint8 or floating point, got dtype {images.dtype}"
        )
    return _rounded(mean, std)


def histogram(
    images: Shaped[np.ndarray, "rows height width channels"],
) -> Int[np.ndarray, "channels 256"]:
    """How often each value of uint8 images occurs in each channel."""
    return np.stack(
        [
            np.bincount(images[..., channel].ravel(), minlength=256)
            for channel in range(images.shape[-1])
        ]
    ).astype(np.int64)


def statistics_of_histogram(
    histogram: Int[np.ndarray, "channels 256"], count: int
) -> Normalization:
    """What :func:`channel_statistics` says of images with this histogram.

    Args:
        histogram: Of all images together.
        count: Values per channel.
    """
    levels = np.arange(256) / 255
    mean = histogram @ levels / count
    squares = (levels - mean[:, None]) ** 2
    return _rounded(mean, np.sqrt(np.sum(histogram * squares, axis=1) / count))


def _rounded(mean: np.ndarray, std: np.ndarray) -> Normalization:
    std = np.where(std <= _CONSTANT * np.abs(mean), 1.0, std)
    return Normalization(mean.astype(np.float32), std.astype(np.float32))


def normalize(
    images: Shaped[ArrayLike, "*batch height width channels"],
    normalization: Normalization,
) -> Float32[Array, "*batch height width channels"]:
    r"""Shifts and scales each channel: :math:`(x - \mu) / \sigma`.

    Args:
        images: uint8 images, divided by 255 first, or floating ones, taken as they are.
        normalization: What :func:`channel_statistics` measured on the training images.

    Returns:
        The normalised images in float32.

    Raises:
        TypeError: If the images are neither uint8 nor floating point.
        InvalidInputError: If the channels differ in number.

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
        raise TypeError(f"images must be uint8 or floating point, got dtype {x.dtype}")
    mean, std = (jnp.asarray(value, jnp.float32) for value in normalization)
    if mean.shape != x.shape[-1:] or std.shape != x.shape[-1:]:
        raise InvalidInputError(
            f"normalization must have one mean and std for each of the {x.shape[-1]} "
            f"channels, got {mean.shape} and {std.shape}"
        )
    axes = tuple(range(x.ndim - 1))
    return (x - jnp.expand_dims(mean, axes)) / jnp.expand_dims(std, axes)
