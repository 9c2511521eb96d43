"""Copies of networks whose layers compute in another dtype."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import DTypeLike

from jaxkd._errors import InvalidInputError

# Their weights are cast to their compute dtype by every call.
_WEIGHTED = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)
_NORMS = (
    *(nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm),
    *(nnx.WeightNorm, nnx.SpectralNorm),
)


def convert_layers(network: Any, dtype: DTypeLike) -> nnx.Module:
    """Copy a network, and let its convolutions and linear layers compute in a dtype.

    Their weights are converted, which Flax would do in each call. Normalizations keep
    their dtype: their sums would be inaccurate.

    Raises:
        InvalidInputError: If the dtype is not floating point, or no layer is such.
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InvalidInputError(
            f"dtype must be floating point, such as bfloat16, got {dtype.name}",
            argument="dtype",
        )
    copy = nnx.clone(network) if isinstance(network, nnx.Module) else None
    modules = [] if copy is None else [module for _, module in nnx.iter_modules(copy)]
    if copy is None or not any(isinstance(module, _WEIGHTED) for module in modules):
        raise InvalidInputError(
            f"dtype is {dtype.name}, but {type(network).__name__} has no convolution "
            "or linear layer of Flax NNX that could compute in it. Leave dtype out, "
            "and let the network itself compute in it.",
            argument="dtype",
        )
    module: Any
    for module in modules:
        if "dtype" in vars(module) and not isinstance(module, _NORMS):
            module.dtype = dtype
        if isinstance(module, _WEIGHTED):
            for weights in (module.kernel, module.bias):
                if weights is not None:
                    weights.set_value(weights.get_value().astype(dtype))
    return copy
