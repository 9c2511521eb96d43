"""Convolutions and normalisation of heads, as the published ones start and compute."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from jaxkd.heads._initializers import uniform


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    use_bias: bool = True,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    r"""A convolution that starts from :math:`U(\pm 1/\sqrt{n})` with n inputs a unit.

    This is PyTorch's default, weights and biases alike.
    """
    init = uniform(1 / math.sqrt(in_channels * math.prod(kernel_size)))
    return nnx.Conv(
        in_channels,
        out_channels,
        kernel_size,
        strides=stride,
        padding=padding,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=dtype,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )


def transposed_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    use_bias: bool = True,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.ConvTranspose:
    r"""A transposed convolution that makes maps exactly ``stride`` times as large.

    Of a kernel of size k, (k - stride)/2 outputs are cut off on each side, so the
    difference has to be even. Weights and biases start from :math:`U(\pm 1/\sqrt{n})`
    where n counts the *outputs* of an input, which is PyTorch's default. Along height
    and width the kernel is PyTorch's in reverse.
    """
    init = uniform(1 / math.sqrt(out_channels * kernel_size**2))
    return nnx.ConvTranspose(
        in_channels,
        out_channels,
        (kernel_size, kernel_size),
        strides=stride,
        padding="SAME",
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=dtype,
        kernel_init=init,
        bias_init=init,
        rngs=rngs,
    )


def batch_norm(channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalisation whose statistics have the dtype too."""
    norm = nnx.BatchNorm(
        channels,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        param_dtype=dtype,
        rngs=rngs,
    )
    # Flax makes the statistics float32, whatever the dtypes.
    norm.mean = nnx.BatchStat(jnp.zeros(channels, dtype))
    norm.var = nnx.BatchStat(jnp.ones(channels, dtype))
    return norm


def normalized(
    norm: nnx.BatchNorm, x: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Applies batch normalisation, under strict dtype promotion too."""
    # Flax widens float64 "to at least float32", which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        return norm(x)
