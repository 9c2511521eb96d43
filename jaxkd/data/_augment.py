"""Random crops and horizontal flips on the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int, PRNGKeyArray, Shaped

from jaxkd import _checks
from jaxkd.data._dataset import Augmentation
from jaxkd.data._randaugment import randaugment
from jaxkd.data._resized_crop import check_scale, draw_boxes, resize_boxes


def augment(
    key: PRNGKeyArray,
    images: Shaped[ArrayLike, "batch height width channels"],
    augmentation: Augmentation,
) -> Shaped[Array, "batch height width channels"]:
    """Crop each zero-padded image at random and flip it with probability 1/2.

    With ``random_resized_crop``, the crop is a box of random area and shape instead,
    resized to the image's size. Its area is a uniform share of the image's, its ratio
    of width to height log-uniform in 3/4 to 4/3, and its place uniform, as in
    torchvision.

    If the settings include RandAugment, :func:`randaugment` is applied afterwards. Call
    :func:`mix` after this function.

    Each image draws its own offset, uniform over all ``(2 · padding + 1)²``, and its
    own flip. Use the function inside jit and before normalization, where zero is black.

    Args:
        key: PRNG key; the same key gives the same result.
        images: Images of any dtype.
        augmentation: Kind of the crop, whether to flip, and RandAugment's settings.
            Operations that are off are not traced.

    Returns:
        Images of the same shape and dtype.

    Raises:
        InvalidInputError: If the padding is negative, there are two kinds of crops, or
            RandAugment cannot be applied.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import data
        >>> images = jnp.ones((2, 32, 32, 3), jnp.uint8)
        >>> augmentation = data.Augmentation(crop_padding=4, flip=True)
        >>> data.augment(jax.random.key(0), images, augmentation).shape
        (2, 32, 32, 3)

    References:
        Szegedy et al., `Going deeper with convolutions
        <https://arxiv.org/abs/1409.4842>`_, 2014, Sec. 6, for crops of random size.
    """
    padding, flip = augmentation.crop_padding, augmentation.flip
    _checks.check_at_least(0, crop_padding=padding)
    images = jnp.asarray(images)
    if augmentation.random_resized_crop is not None:
        images = _resized(key, images, augmentation)
    elif padding or flip:
        images = _cropped_or_mirrored(key, images, padding, flip)
    if augmentation.randaugment is not None:
        # Differs from the keys that are split off for crops and flips.
        images = randaugment(
            jax.random.fold_in(key, 1), images, augmentation.randaugment
        )
    return images


def _resized(
    key: PRNGKeyArray,
    images: Shaped[Array, "batch height width channels"],
    augmentation: Augmentation,
) -> Shaped[Array, "batch height width channels"]:
    """Resize a random box of each image to its size, and flip it at random."""
    scale = augmentation.random_resized_crop
    assert scale is not None
    check_scale(scale, augmentation.crop_padding)
    batch, height, width, _ = images.shape
    box_key, flip_key = jax.random.split(key)
    boxes = draw_boxes(box_key, batch, (height, width), scale)
    probability = 0.5 if augmentation.flip else 0.0
    mirrored = jax.random.bernoulli(flip_key, probability, (batch,))
    return resize_boxes(images, boxes, mirrored)


def _cropped_or_mirrored(
    key: PRNGKeyArray,
    images: Shaped[Array, "batch height width channels"],
    padding: int,
    flip: bool,
) -> Shaped[Array, "batch height width channels"]:
    batch = images.shape[0]
    offset_key, flip_key = jax.random.split(key)
    offsets = jax.random.randint(
        offset_key, (batch, 2), 0, 2 * padding + 1, dtype=jnp.int32
    )
    mirrored = jax.random.bernoulli(flip_key, 0.5 if flip else 0.0, (batch,))
    return _crop(images, offsets, mirrored, padding)


def _crop(
    images: Shaped[Array, "batch height width channels"],
    offsets: Int[Array, "batch 2"],
    mirrored: Bool[Array, " batch"],
    padding: int,
) -> Shaped[Array, "batch height width channels"]:
    """Crop each image at its offset and flip it where ``mirrored`` is true.

    One gather does both. On a CPU it is faster than a vmapped dynamic slice and a
    select, and it keeps uint8 images uint8.
    """
    batch, height, width, _ = images.shape
    margin = (padding, padding)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
    examples = jnp.arange(batch, dtype=jnp.int32)
    columns = jnp.arange(width, dtype=jnp.int32)[None, :]
    columns = jnp.where(mirrored[:, None], width - 1 - columns, columns)
    columns += offsets[:, 1:]
    rows = jnp.arange(height, dtype=jnp.int32)[None, :] + offsets[:, :1]
    window = padded.at[examples[:, None, None], rows[:, :, None], columns[:, None, :]]
    return window.get(mode="promise_in_bounds")
