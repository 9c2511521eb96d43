"""Batch normalization folded into the convolutions before it, for inference."""

from typing import TypeVar

import jax.numpy as jnp
from flax import nnx

from jaxkd.models._layers import BatchNorm, ConvNorm, FoldedNorm

Network = TypeVar("Network", bound=nnx.Module)


def fold_batch_norms(model: Network) -> Network:
    r"""Copies a network and lets its convolutions do the work of its batch norms.

    In inference, a convolution with kernel :math:`W` and bias :math:`b` and then a
    normalization with scale :math:`\gamma`, offset :math:`\beta`, running mean
    :math:`\mu` and running variance :math:`\sigma^2` are one convolution: for each
    output channel

    .. math::
        W' = g W, \qquad b' = \beta + g (b - \mu), \qquad
        g = \gamma / \sqrt{\sigma^2 + \epsilon}.

    All outputs stay as they are, feature maps included, up to rounding. Fewer arrays
    and operations are left; the time that they take was no shorter on the CPU where it
    was measured (docs/performance.md). This is done in the parameters' dtype (float32,
    or float64 with float64), whatever the network computes in.

    A pair is found by its layer: where the zoo's networks normalize right after a
    convolution. A normalization that stands elsewhere (before the activation that a
    convolution follows, as in wide residual networks) stays, and so do all of a network
    of your own: that one layer feeds the other, and nothing else reads what is between,
    is in its ``__call__``, which cannot be looked into. A network without such pairs
    comes back as a copy.

    Args:
        model: A network. It is not changed.

    Returns:
        The copy, for inference only: outside inference mode it refuses to work, and it
        has no layers as published any more to be converted.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.build(
        ...     "resnet8", num_classes=10, image_shape=(8, 8, 1), width=4,
        ...     rngs=nnx.Rngs(0),
        ... )
        >>> folded = models.fold_batch_norms(model)
        >>> images, inference = jnp.ones((2, 8, 8, 1)), {"use_running_average": True}
        >>> before = nnx.view(model, **inference)(images).logits
        >>> after = nnx.view(folded, **inference)(images).logits
        >>> bool(jnp.allclose(before, after, rtol=1e-5, atol=1e-5))
        True
    """
    copy = nnx.clone(model)
    # The list first: folding changes what is walked over.
    for _, module in list(nnx.iter_modules(copy)):
        if isinstance(module, ConvNorm) and isinstance(module.norm, BatchNorm):
            _fold(module, module.norm)
    return copy


def _fold(module: ConvNorm, norm: BatchNorm) -> None:
    """Folds one pair, in place."""
    conv = module.conv
    gain = 1 / jnp.sqrt(norm.var[...] + norm.epsilon)
    if norm.scale is not None:
        gain = gain * norm.scale[...]
    bias = -norm.mean[...] if conv.bias is None else conv.bias[...] - norm.mean[...]
    bias = gain * bias
    if norm.bias is not None:
        bias = bias + norm.bias[...]
    conv.kernel[...] = conv.kernel[...] * gain[None, None, None]
    conv.bias = nnx.Param(bias)
    conv.use_bias = True
    module.norm = FoldedNorm()
