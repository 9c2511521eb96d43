"""Fold batch normalizations into the convolutions before them, for inference."""

from typing import TypeVar

import jax.numpy as jnp
from flax import nnx

from jaxkd.models._layers import BatchNorm, ConvNorm, FoldedNorm

Network = TypeVar("Network", bound=nnx.Module)


def fold_batch_norms(model: Network) -> Network:
    r"""Copy a network and fold its batch normalizations into its convolutions.

    In inference mode, a convolution with kernel :math:`W` and bias :math:`b`, followed
    by a normalization with scale :math:`\gamma`, offset :math:`\beta`, running mean
    :math:`\mu` and running variance :math:`\sigma^2`, is equal to one convolution with,
    for each output channel,

    .. math::
        W' = g W, \qquad b' = \beta + g (b - \mu), \qquad
        g = \gamma / \sqrt{\sigma^2 + \epsilon}.

    All outputs, including feature maps, do not change, up to rounding. The copy has
    fewer arrays and operations, but it was not faster on the CPU where this was
    measured (docs/performance.md). The result is computed in the dtype of the
    parameters (float32 or float64), independent of the network's compute dtype.

    Pairs are found by their layer class, which jaxkd's networks use for a normalization
    directly after a convolution. Other normalizations are not folded, such as those
    before an activation and a convolution in wide residual networks. Normalizations of
    your own networks are not folded either: whether one layer feeds another, and
    nothing else reads the values between them, depends on ``__call__``, which is not
    inspected. A network without pairs is copied.

    Args:
        model: A network. It is not changed.

    Returns:
        The copy, for inference only. It raises an error outside inference mode, and its
        layers can no longer be converted to PyTorch.

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
    # Folding changes the modules, so they are listed first.
    for _, module in list(nnx.iter_modules(copy)):
        if isinstance(module, ConvNorm) and isinstance(module.norm, BatchNorm):
            _fold(module, module.norm)
    return copy


def _fold(module: ConvNorm, norm: BatchNorm) -> None:
    """Fold one pair in place."""
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
