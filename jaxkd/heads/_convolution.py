"""Convolutions and batch normalization of heads, initialized as in PyTorch."""

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
    r"""Build a convolution with weights and biases from :math:`U(\pm 1/\sqrt{n})`.

    Here n is the number of inputs of a unit. This is PyTorch's default.
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
    r"""Build a transposed convolution with outputs exactly ``stride`` times as large.

    With a kernel of size k, (k - stride)/2 outputs are cropped on each side, so the
    difference must be even. Weights and biases are drawn from
    :math:`U(\pm 1/\sqrt{n})`, where n is the number of *outputs* of an input. This is
    PyTorch's default. Compared to PyTorch, the kernel is reversed along height and
    width.
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
    """Build a batch normalization whose statistics also have the given dtype."""
    norm = nnx.BatchNorm(
        channels,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        param_dtype=dtype,
        rngs=rngs,
    )
    # Flax makes the statistics float32, regardless of the dtypes.
    norm.mean = nnx.BatchStat(jnp.zeros(channels, dtype))
    norm.var = nnx.BatchStat(jnp.ones(channels, dtype))
    return norm


def normalized(
    norm: nnx.BatchNorm, x: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """Apply batch normalization; also works under strict dtype promotion."""
    # Flax promotes float64 and float32, which strict promotion does not allow.
    with jax.numpy_dtype_promotion("standard"):
        return norm(x)
