"""RandAugment on the device: a few random operations for each image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, Shaped, UInt8

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data._dataset import RandAugment
from jaxkd.data._range import check_unit_range

_MAX_MAGNITUDE = 10.0  # As in the paper.
# Values of AutoAugment at the largest magnitude.
_ROTATION = 30.0  # Degrees.
_SHEAR = 0.3
_TRANSLATION = 0.45  # Share of the image's width or height.
_ENHANCEMENT = 0.9
_POSTERIZED_BITS = 4.0

# Weights of red, green and blue in a gray image (ITU-R 601), as 16-bit fractions.
_LUMA = (19595, 38470, 7471)

_Image = UInt8[Array, "height width channels"]
_Level = Float[Array, ""]


def randaugment(
    key: PRNGKeyArray,
    images: Shaped[ArrayLike, "batch height width channels"],
    settings: RandAugment,
) -> Shaped[Array, "batch height width channels"]:
    """Apply random operations to each image, drawn from fourteen with replacement.

    The operations are listed in ``OPERATIONS``: the identity, five geometric ones, and
    eight of color, which agree with Pillow's. At magnitude 0, all are the identity
    except ``autocontrast`` and ``equalize``, which have no magnitude. If an operation
    has two directions (left or right, brighter or darker), each image draws one.

    Args:
        key: PRNG key; the same key gives the same result.
        images: uint8, or floats in ``[0, 1]``, which are rounded to 256 levels.
        settings: Number and magnitude of the operations.

    Returns:
        Images of the same shape and dtype. Pixels from outside an image are black.

    Raises:
        InvalidInputError: If the number of channels is not 1 or 3, a setting is out
            of range, or concrete floats are not in ``[0, 1]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import data
        >>> images = jnp.ones((2, 32, 32, 3), jnp.uint8)
        >>> data.randaugment(jax.random.key(0), images, data.RandAugment(2, 9)).shape
        (2, 32, 32, 3)

    References:
        Cubuk et al., `RandAugment: Practical automated data augmentation with a reduced
        search space <https://arxiv.org/abs/1909.13719>`_, 2019, Sec. 3.
    """
    num_ops, magnitude = settings
    _checks.check_at_least(1, randaugment_operations=num_ops)
    _checks.check_in_range(0.0, _MAX_MAGNITUDE, randaugment_magnitude=magnitude)
    images = jnp.asarray(images)
    batch, *_, channels = images.shape
    if channels not in (1, 3):
        raise InvalidInputError(
            f"images must have 1 or 3 channels for RandAugment, got {channels}",
            argument="images",
        )
    if images.dtype != jnp.uint8 and not isinstance(images, Tracer):
        check_unit_range(images.min(), images.max(), "images")
    levels = jnp.full((batch,), magnitude / _MAX_MAGNITUDE, jnp.float32)

    def apply(pixels, key):
        choice_key, sign_key = jax.random.split(key)
        count = len(OPERATIONS)
        choice = jax.random.randint(choice_key, (batch,), 0, count, dtype=jnp.int32)
        signed = jnp.where(jax.random.bernoulli(sign_key, 0.5, (batch,)), 1, -1)
        one = lambda i, image, level: jax.lax.switch(
            i, list(OPERATIONS.values()), image, level
        )
        return jax.vmap(one)(choice, pixels, levels * signed.astype(jnp.float32)), None

    if images.dtype == jnp.uint8:
        return jax.lax.scan(apply, images, jax.random.split(key, num_ops))[0]
    scaled = images.astype(jnp.float32) * 255
    pixels, _ = jax.lax.scan(apply, _to_uint8(scaled), jax.random.split(key, num_ops))
    return (pixels.astype(jnp.float32) / 255).astype(images.dtype)


def identity(image: _Image, level: _Level) -> _Image:
    """Return the image itself."""
    del level
    return image


def autocontrast(image: _Image, level: _Level) -> _Image:
    """Scale each channel so that its smallest value is 0 and its largest 255."""
    del level
    x = image.astype(jnp.int32)
    low, high = x.min((0, 1), keepdims=True), x.max((0, 1), keepdims=True)
    stretched = (x - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, x).astype(jnp.uint8)


def equalize(image: _Image, level: _Level) -> _Image:
    """Equalize the histogram of each channel."""
    del level
    return jax.vmap(_equalize, in_axes=-1, out_axes=-1)(image)


def _equalize(channel: UInt8[Array, "height width"]) -> UInt8[Array, "height width"]:
    counts = jnp.zeros(256, jnp.int32).at[channel.ravel()].add(1)
    brightest = counts[channel.max()]
    step = (channel.size - brightest) // 255
    before = jnp.cumsum(counts) - counts
    table = (step // 2 + before) // jnp.maximum(step, 1)
    table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
    return table.astype(jnp.uint8)[channel]


def rotate(image: _Image, level: _Level) -> _Image:
    """Rotate about the center, counterclockwise if the level is positive."""
    angle = -level * jnp.float32(jnp.deg2rad(_ROTATION))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = image.shape[0] / 2, image.shape[1] / 2
    shift = x - cos * x - sin * y, y + sin * x - cos * y
    return _transform(image, (cos, sin, shift[0]), (-sin, cos, shift[1]))


def shear_x(image: _Image, level: _Level) -> _Image:
    """Shift each row in proportion to its number."""
    return _transform(image, (1.0, level * _SHEAR, 0.0), (0.0, 1.0, 0.0))


def shear_y(image: _Image, level: _Level) -> _Image:
    """Shift each column in proportion to its number."""
    return _transform(image, (1.0, 0.0, 0.0), (level * _SHEAR, 1.0, 0.0))


def translate_x(image: _Image, level: _Level) -> _Image:
    """Shift horizontally."""
    shift = level * _TRANSLATION * image.shape[1]
    return _transform(image, (1.0, 0.0, shift), (0.0, 1.0, 0.0))


def translate_y(image: _Image, level: _Level) -> _Image:
    """Shift vertically."""
    shift = level * _TRANSLATION * image.shape[0]
    return _transform(image, (1.0, 0.0, 0.0), (0.0, 1.0, shift))


def solarize(image: _Image, level: _Level) -> _Image:
    """Invert values above a threshold, which falls from 256 to 0 with the level."""
    threshold = 256 * (1 - jnp.abs(level))
    return jnp.where(image.astype(jnp.float32) < threshold, image, 255 - image)


def posterize(image: _Image, level: _Level) -> _Image:
    """Keep the highest 8 to 4 bits."""
    dropped = jnp.round(jnp.abs(level) * _POSTERIZED_BITS).astype(jnp.uint8)
    return (image >> dropped) << dropped


def color(image: _Image, level: _Level) -> _Image:
    """Blend with the gray image, or move away from it; gray images do not change."""
    gray = _gray(image)
    return _blend(jnp.broadcast_to(gray, image.shape), image, level)


def contrast(image: _Image, level: _Level) -> _Image:
    """Blend with the mean of the gray image, or move away from it."""
    gray = _gray(image)
    mean = (2 * jnp.sum(gray, dtype=jnp.int32) + gray.size) // (2 * gray.size)
    return _blend(jnp.full(image.shape, mean, jnp.int32), image, level)


def brightness(image: _Image, level: _Level) -> _Image:
    """Blend with black, or move away from it."""
    return _blend(jnp.zeros(image.shape, jnp.int32), image, level)


def sharpness(image: _Image, level: _Level) -> _Image:
    """Blend with a smoothed image, or move away from it, except at the border."""
    x = image.astype(jnp.int32)
    height, width, _ = x.shape
    if height < 3 or width < 3:
        return image
    total = sum(
        x[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)
    )
    smooth = (2 * (total + 4 * x[1:-1, 1:-1]) + 13) // 26  # Sum / 13, rounded.
    return _blend(x.at[1:-1, 1:-1].set(smooth), image, level)


OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "identity": identity,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "rotate": rotate,
    "solarize": solarize,
    "color": color,
    "posterize": posterize,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
}
"""``(image, level) -> image``: uint8 images and a signed level in [-1, 1]."""


def _transform(image: _Image, to_x: tuple, to_y: tuple) -> _Image:
    """Sample the nearest pixel at an affine function of each pixel center, or black."""
    height, width, _ = image.shape
    y = jnp.arange(height, dtype=jnp.float32)[:, None] + 0.5
    x = jnp.arange(width, dtype=jnp.float32)[None, :] + 0.5
    y, x = jnp.broadcast_arrays(y, x)
    column, row = (
        jnp.floor(a * x + b * y + c).astype(jnp.int32) for a, b, c in (to_x, to_y)
    )
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], found, jnp.uint8(0))


def _gray(image: _Image) -> Int[Array, "height width 1"]:
    x = image.astype(jnp.int32)
    if x.shape[-1] == 1:
        return x
    weighted = jnp.dot(x, jnp.array(_LUMA, jnp.int32))[..., None]
    return (weighted + 2**15) >> 16


def _blend(
    degenerate: Int[Array, "height width channels"], image: _Image, level: _Level
) -> _Image:
    """Interpolate from the degenerate image (factor 0) to the image (1) and beyond."""
    factor = 1 + _ENHANCEMENT * level
    start = degenerate.astype(jnp.float32)
    blended = start + factor * (image.astype(jnp.float32) - start)
    # At level 0, the result is exactly the image, despite rounding.
    whole = jnp.floor(jnp.clip(blended, 0, 255)).astype(jnp.uint8)
    return jnp.where(level == 0, image, whole)


def _to_uint8(values: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    return jnp.clip(jnp.round(values), 0, 255).astype(jnp.uint8)
