"""Layers and checks that the networks of the zoo share."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd._errors import InvalidInputError

_kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# Uniform within ±1/sqrt(fan_in).
_torch_linear = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class ConvNorm(nnx.Module):
    """A convolution without bias, then batch normalisation.

    The normalisation runs in float32 whatever the convolution's dtype: statistics of
    bfloat16 activations lose their digits otherwise, and XLA fuses the conversions.
    The running variance is the population variance of the batch (PyTorch stores the
    unbiased one, larger by n/(n-1) with n = batch · height · width).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel.
        stride: Spatial stride.
        padding: Zeros added on each side; explicit, because "SAME" pads a strided
            convolution on one side only, unlike the published networks.
        dtype: Dtype of the convolution and of the output.
        rngs: Randomness for the initial kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            (kernel_size, kernel_size),
            strides=stride,
            padding=padding,
            use_bias=False,
            dtype=dtype,
            kernel_init=_kaiming_normal,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(
            out_channels, momentum=0.9, epsilon=1e-5, dtype=jnp.float32, rngs=rngs
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Convolves and normalises channels-last feature maps."""
        y = self.conv(x)
        return self.norm(y).astype(y.dtype)


def linear(
    in_features: int, out_features: int, *, dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Linear:
    """A linear layer, weight and bias initialised U(±1/sqrt(in_features))."""
    bound = 1 / math.sqrt(in_features)

    def bias_init(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(
        in_features,
        out_features,
        dtype=dtype,
        kernel_init=_torch_linear,
        bias_init=bias_init,
        rngs=rngs,
    )


def compute_dtype(dtype: DTypeLike | None) -> DTypeLike:
    """The dtype to compute in: float32 unless a narrower one is asked for."""
    if dtype is None:
        return jnp.float32
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits > 32:
        raise InvalidInputError(
            f"dtype must be float32, bfloat16 or float16, got {jnp.dtype(dtype).name}; "
            "parameters and statistics are always float32"
        )
    return dtype


def as_images(images: ArrayLike, dtype: DTypeLike) -> Array:
    """Converts normalised images to the compute dtype.

    Raises:
        TypeError: If the images are not floating point.
    """
    array = jnp.asarray(images)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"images must be floating point, got dtype {array.dtype}; "
            "normalise them with jaxkd.data.normalize"
        )
    return array.astype(dtype)


def check_image_size(height: int, width: int, *, smallest: int) -> None:
    """Raises ``InvalidInputError`` unless both sides have ``smallest`` pixels."""
    if min(height, width) < smallest:
        raise InvalidInputError(
            f"images must be at least {smallest}x{smallest} pixels for this network, "
            f"got {height}x{width}; pad or enlarge them, or use the 'mlp'"
        )
