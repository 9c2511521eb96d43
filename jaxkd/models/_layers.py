"""Layers and checks that the networks of the zoo share."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd._errors import InvalidInputError

# A layer, or a bare parameter, and its name in the published PyTorch checkpoints.
TorchLayer = tuple[str, nnx.Module | nnx.Param]

_kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# Uniform within ±1/sqrt(fan_in).
_torch_linear = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class ConvNorm(nnx.Module):
    """A convolution without bias, then batch normalisation.

    The normalisation runs in at least float32, whatever the convolution's dtype:
    statistics of bfloat16 activations lose their digits otherwise, and XLA fuses the
    conversions. So do its parameters and statistics: float32, or float64 with a
    float64 convolution.
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
        stored = parameter_dtype(dtype)
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            (kernel_size, kernel_size),
            strides=stride,
            padding=padding,
            use_bias=False,
            dtype=dtype,
            param_dtype=stored,
            kernel_init=_kaiming_normal,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(
            out_channels,
            momentum=0.9,
            epsilon=1e-5,
            dtype=stored,
            param_dtype=stored,
            rngs=rngs,
        )
        # Flax makes the statistics float32, whatever the dtypes.
        self.norm.mean = nnx.BatchStat(jnp.zeros(out_channels, stored))
        self.norm.var = nnx.BatchStat(jnp.ones(out_channels, stored))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Convolves and normalises channels-last feature maps."""
        y = self.conv(x)
        # Flax widens float64 "to at least float32", which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            return self.norm(y).astype(y.dtype)

    def torch_layers(self, conv: str, norm: str) -> Iterator[TorchLayer]:
        """The two layers under their names."""
        yield conv, self.conv
        yield norm, self.norm


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
        param_dtype=parameter_dtype(dtype),
        kernel_init=_torch_linear,
        bias_init=bias_init,
        rngs=rngs,
    )


def compute_dtype(dtype: DTypeLike | None) -> DTypeLike:
    """The dtype to compute in: float32 unless another floating one is asked for."""
    if dtype is None:
        return jnp.float32
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InvalidInputError(
            "dtype must be float32, bfloat16, float16 or float64, "
            f"got {jnp.dtype(dtype).name}"
        )
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    if jnp.finfo(dtype).bits > 32 and not x64:
        raise InvalidInputError(
            f"dtype {jnp.dtype(dtype).name} needs jax_enable_x64, which is off; enable "
            "it with jax.config.update('jax_enable_x64', True), or take float32"
        )
    return dtype


def parameter_dtype(dtype: DTypeLike) -> DTypeLike:
    """The dtype of parameters and statistics: float64 with float64, else float32."""
    return dtype if jnp.finfo(dtype).bits > 32 else jnp.float32


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
