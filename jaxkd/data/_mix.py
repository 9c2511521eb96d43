"""Mixup and CutMix: mix the images of a batch."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray, Shaped

from jaxkd import _checks
from jaxkd.data._dataset import Augmentation


class Mixed(NamedTuple):
    """Labels and share of the partners that were mixed into a batch.

    Attributes:
        labels: Class number of each image's partner.
        share: Share of the partner in each image, in ``[0, 1/2]``; the image's own
            label therefore dominates.
    """

    labels: Int[Array, " batch"]
    share: Float[Array, ""]


def mix(
    key: PRNGKeyArray,
    images: Shaped[ArrayLike, "batch height width channels"],
    labels: Int[ArrayLike, " batch"],
    augmentation: Augmentation,
) -> tuple[Shaped[Array, "batch height width channels"], Mixed | None]:
    r"""Mix each image with a partner from a random permutation of the batch.

    Mixup blends the images, :math:`(1 - s) x_i + s x_j`. CutMix replaces the pixels in
    a box, or those around it, by the partner's; :math:`s` is their share. The published
    :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`, one for the batch, is folded:
    :math:`s = \min(\lambda, 1 - \lambda)`. This exchanges the roles of an image and its
    partner if the partner would dominate. The result has the same distribution, because
    the inverse permutation is equally likely. If both are on, each batch uses one of
    them, with probability 1/2.

    Args:
        key: PRNG key; the same key gives the same result.
        images: uint8 (mixed values are rounded) or floating-point images.
        labels: Class numbers.
        augmentation: Settings; ``mixup`` and ``cutmix`` are the :math:`\alpha` of each
            method, 0 for off.

    Returns:
        Images of the same shape and dtype, and the labels and share of the partners. If
        both methods are off, the images themselves and None.

    Raises:
        InvalidInputError: If an :math:`\alpha` is negative or NaN.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import data
        >>> images, labels = jnp.ones((4, 8, 8, 1)), jnp.arange(4)
        >>> settings = data.Augmentation(mixup=0.2)
        >>> _, mixed = data.mix(jax.random.key(0), images, labels, settings)
        >>> assert mixed is not None
        >>> mixed.labels.shape, bool(mixed.share <= 0.5)
        ((4,), True)

    References:
        Zhang et al., `mixup: Beyond Empirical Risk Minimization
        <https://arxiv.org/abs/1710.09412>`_, 2018; Yun et al., `CutMix
        <https://arxiv.org/abs/1905.04899>`_, 2019, Eq. 1 and 2.
    """
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    _checks.check_in_range(0.0, math.inf, mixup=mixup, cutmix=cutmix)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if not mixup and not cutmix:
        return images, None
    partner_key, blend_key, box_key, coin_key = jax.random.split(key, 4)
    batch, height, width, _ = images.shape
    partners = jax.random.permutation(
        partner_key, jnp.arange(batch, dtype=jnp.int32), independent=False
    )
    if not cutmix:
        share = _partner_share(blend_key, mixup)
        weights = jnp.broadcast_to(share, (height, width))
    else:
        weights = _partner_pixels(box_key, height, width, cutmix).astype(jnp.float32)
        if mixup:
            blend = jnp.broadcast_to(_partner_share(blend_key, mixup), (height, width))
            weights = jnp.where(jax.random.bernoulli(coin_key), blend, weights)
        share = jnp.mean(weights)
    weights = weights[None, :, :, None]
    own, other = (x.astype(jnp.float32) for x in (images, images[partners]))
    blended = own + weights * (other - own)
    if images.dtype == jnp.uint8:
        blended = jnp.round(blended)
    return blended.astype(images.dtype), Mixed(labels[partners], share)


def _partner_share(key: PRNGKeyArray, alpha: float) -> Float[Array, ""]:
    kept = jax.random.beta(key, alpha, alpha, dtype=jnp.float32)
    return jnp.minimum(kept, 1 - kept)


def _partner_pixels(
    key: PRNGKeyArray, height: int, width: int, alpha: float
) -> Bool[Array, "{height} {width}"]:
    """Return the mask of a random box, or its complement if it covers over half."""
    size_key, y_key, x_key = jax.random.split(key, 3)
    kept = jax.random.beta(size_key, alpha, alpha, dtype=jnp.float32)
    side = jnp.sqrt(1 - kept)
    within = (
        _interval(y_key, height, side)[:, None] & _interval(x_key, width, side)[None, :]
    )
    return within ^ (jnp.mean(within, dtype=jnp.float32) > 0.5)


def _interval(
    key: PRNGKeyArray, length: int, side: Float[Array, ""]
) -> Bool[Array, " {length}"]:
    """Return the mask of a random interval with this share of the length, clipped."""
    half = jnp.floor(side * length).astype(jnp.int32) // 2
    center = jax.random.randint(key, (), 0, length, dtype=jnp.int32)
    positions = jnp.arange(length, dtype=jnp.int32)
    return (positions >= center - half) & (positions < center + half)
