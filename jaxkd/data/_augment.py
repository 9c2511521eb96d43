"""Random crops and horizontal flips on the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int, PRNGKeyArray, Shaped

from jaxkd import _checks
from jaxkd.data._dataset import Augmentation
from jaxkd.data._randaugment import randaugment


def augment(
    key: PRNGKeyArray,
    images: Shaped[ArrayLike, "batch height width channels"],
    augmentation: Augmentation,
) -> Shaped[Array, "batch height width channels"]:
    """Crop each zero-padded image at random and flip it with probability 1/2.

    If the settings include RandAugment, :func:`randaugment` is applied afterwards. Call
    :func:`mix` after this function.

    Each image draws its own offset, uniform over all ``(2 · padding + 1)²``, and its
    own flip. Use the function inside jit and before normalization, where zero is black.

    Args:
        key: PRNG key; the same key gives the same result.
        images: Images of any dtype.
        augmentation: Padding, whether to flip, and RandAugment's settings. Operations
            that are off are not traced.

    Returns:
        Images of the same shape and dtype.

    Raises:
        InvalidInputError: If the padding is negative or RandAugment cannot be applied.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import data
        >>> images = jnp.ones((2, 32, 32, 3), jnp.uint8)
        >>> augmentation = data.Augmentation(crop_padding=4, flip=True)
        >>> data.augment(jax.random.key(0), images, augmentation).shape
        (2, 32, 32, 3)
    """
    padding, flip = augmentation.crop_padding, augmentation.flip
    _checks.check_at_least(0, crop_padding=padding)
    images = jnp.asarray(images)
    if padding or flip:
        images = _cropped_or_mirrored(key, images, padding, flip)
    if augmentation.randaugment is not None:
        # Differs from the keys that are split off for crops and flips.
        images = randaugment(
            jax.random.fold_in(key, 1), images, augmentation.randaugment
        )
    return images


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
