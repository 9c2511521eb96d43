"""Crops of random size and shape, resized to the images' size, on the device."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, Shaped

from jaxkd._errors import InvalidInputError

# As torchvision's RandomResizedCrop.
_LOWEST_RATIO, _HIGHEST_RATIO = 3 / 4, 4 / 3  # Width to height.
_TRIES = 10


def check_scale(scale: Any, crop_padding: int) -> None:
    """Check the shares of the area, and that images are not padded, too.

    Raises:
        InvalidInputError: If the scales are not ``0 < low <= high <= 1``, or there is a
            padding.
    """
    try:
        low, high = map(float, scale)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0 < low <= high <= 1:
        raise InvalidInputError(
            "random_resized_crop must be the smallest and the largest share of the "
            f"image's area, above 0 and at most 1, such as (0.08, 1), got {scale}",
            argument="random_resized_crop",
        )
    if crop_padding:
        raise InvalidInputError(
            f"crop_padding is {crop_padding}, but random_resized_crop replaces the "
            "crop of the padded image; set crop_padding to 0, or leave out "
            "random_resized_crop",
            argument="crop_padding",
        )


def draw_boxes(
    key: PRNGKeyArray, batch: int, size: tuple[int, int], scale: tuple[float, float]
) -> Int[Array, "{batch} 4"]:
    r"""Draw the box of each image, with the distribution of torchvision.

    A candidate has the area :math:`a H W` with :math:`a` uniform in ``scale``, and the
    ratio :math:`r` of width to height, log-uniform in 3/4 to 4/3. Its sides
    :math:`\sqrt{a H W r}` and :math:`\sqrt{a H W / r}` are rounded. The first of ten
    candidates that fits into the image is used, at a uniform place. If none fits, the
    box is the largest centered one whose ratio is in the range.

    Args:
        key: PRNG key.
        batch: Number of images.
        size: Their height and width.
        scale: Smallest and largest share of the image's area.

    Returns:
        Top, left, height and width of each box, int32.
    """
    height, width = size
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    low, high = scale
    draw = (batch, _TRIES)
    areas = jax.random.uniform(area_key, draw, jnp.float32, low, high) * height * width
    edge = math.log(_HIGHEST_RATIO)
    ratios = jnp.exp(jax.random.uniform(ratio_key, draw, jnp.float32, -edge, edge))
    widths = jnp.round(jnp.sqrt(areas * ratios)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(areas / ratios)).astype(jnp.int32)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    sides = jnp.concatenate(
        [jnp.take_along_axis(x, first, axis=1) for x in (heights, widths)], axis=1
    )
    free = jnp.array([size], jnp.int32) - sides
    places = jax.random.randint(
        place_key, (batch, 2), 0, jnp.maximum(free, 0) + 1, dtype=jnp.int32
    )
    drawn = jnp.concatenate([places, sides], axis=1)
    whole = jnp.array([_centered_box(height, width)], jnp.int32)
    return jnp.where(fits.any(axis=1, keepdims=True), drawn, whole)


def _centered_box(height: int, width: int) -> tuple[int, int, int, int]:
    rows, columns = height, width
    if width / height < _LOWEST_RATIO:
        rows = round(width / _LOWEST_RATIO)
    elif width / height > _HIGHEST_RATIO:
        columns = round(height * _HIGHEST_RATIO)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def resize_boxes(
    images: Shaped[Array, "batch height width channels"],
    boxes: Int[Array, "batch 4"],
    mirrored: Bool[Array, " batch"],
) -> Shaped[Array, "batch height width channels"]:
    """Cut out each box, resize it to the images' size, and flip it where asked.

    The resampling is bilinear, as Pillow's. A box is never larger than the result, so
    there is nothing to smooth: with and without antialiasing, the result is the same.
    Pixels outside of the box have no influence. Floats are rounded to the nearest whole
    number for uint8.

    One gather for each of four neighbors is faster on a CPU than the matrices of
    ``jax.image.scale_and_translate``, whose edges also mix in pixels outside the box.
    """
    _, height, width, _ = images.shape
    top, left, rows, columns = (boxes[:, i] for i in range(4))
    above, below, down = _neighbors(top, rows, height, jnp.zeros_like(mirrored))
    before, after, right = _neighbors(left, columns, width, mirrored)
    examples = jnp.arange(images.shape[0], dtype=jnp.int32)[:, None, None]

    def at(row: Array, column: Array) -> Array:
        place = images.at[examples, row[:, :, None], column[:, None, :]]
        return place.get(mode="promise_in_bounds").astype(jnp.float32)

    right, down = right[:, None, :, None], down[:, :, None, None]
    upper = at(above, before) * (1 - right) + at(above, after) * right
    lower = at(below, before) * (1 - right) + at(below, after) * right
    values = upper * (1 - down) + lower * down
    if images.dtype == jnp.uint8:
        values = jnp.round(values)
    return values.astype(images.dtype)


def _neighbors(
    start: Int[Array, " batch"],
    length: Int[Array, " batch"],
    size: int,
    mirrored: Bool[ArrayLike, " batch"],
) -> tuple[
    Int[Array, "batch {size}"], Int[Array, "batch {size}"], Float[Array, "batch {size}"]
]:
    """Return both neighbors of each pixel of the result, and the weight of the second.

    Pixel ``i`` has its center at ``(i + 1/2) · length / size`` in the box.
    """
    positions = jnp.arange(size, dtype=jnp.float32)[None, :]
    positions = jnp.where(
        jnp.asarray(mirrored)[:, None], size - 1 - positions, positions
    )
    extent = length[:, None].astype(jnp.float32)
    centers = (positions + 0.5) * (extent / size) - 0.5
    centers = jnp.clip(centers, 0, extent - 1)
    first = jnp.floor(centers)
    second = jnp.minimum(first + 1, extent - 1)
    lower, upper = (start[:, None] + x.astype(jnp.int32) for x in (first, second))
    return lower, upper, centers - first
