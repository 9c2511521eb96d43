"""Layers and argument checks that the networks share."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError

# For smaller images, the last stages of the networks would see mostly padding.
SMALLEST_IMAGE = 8

# Name in the published PyTorch checkpoints, and the layer or parameter.
TorchLayer = tuple[str, nnx.Module | nnx.Param]

Padding = int | Literal["SAME"]

kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# Uniform within ±1/sqrt(fan_in): PyTorch's default for linear layers and convolutions.
torch_uniform = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class BatchNorm(nnx.BatchNorm):
    """Batch normalization over all axes except the channels, in at least float32.

    Statistics computed in bfloat16 would be inaccurate, and XLA fuses the conversions.
    Parameters and statistics are float32, or float64 if ``dtype`` is float64. The
    running variance is the population variance of the batch. (PyTorch stores the
    unbiased variance, which is larger by n/(n-1) with n = batch · height · width.)

    Args:
        channels: Channels of the input.
        epsilon: Number that is added to the variance.
        dtype: Dtype of the network's computation and of the output.
        rngs: Required by Flax; scale and bias are initialized to one and zero.
    """

    def __init__(
        self,
        channels: int,
        *,
        epsilon: float = 1e-5,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        stored = parameter_dtype(dtype)
        super().__init__(
            channels,
            momentum=0.9,
            epsilon=epsilon,
            dtype=stored,
            param_dtype=stored,
            rngs=rngs,
        )
        # Flax makes the statistics float32, regardless of the dtypes.
        self.mean = nnx.BatchStat(jnp.zeros(channels, stored))
        self.var = nnx.BatchStat(jnp.ones(channels, stored))

    def __call__(
        self,
        x: Float[Array, "... c"],
        use_running_average: bool | None = None,
        *,
        mask: Array | None = None,
    ) -> Float[Array, "... c"]:
        """Normalize channels-last features; see Flax for the arguments."""
        # Flax promotes float64 and float32, which strict promotion does not allow.
        with jax.numpy_dtype_promotion("standard"):
            return super().__call__(x, use_running_average, mask=mask).astype(x.dtype)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    use_bias: bool = False,
    kernel_init: nnx.Initializer = kaiming_normal,
    bias_init: nnx.Initializer = nnx.initializers.zeros,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Build a convolution; see :class:`ConvNorm` for the arguments."""
    return nnx.Conv(
        in_channels,
        out_channels,
        (kernel_size, kernel_size),
        strides=stride,
        padding=padding,
        feature_group_count=groups,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=parameter_dtype(dtype),
        kernel_init=kernel_init,
        bias_init=bias_init,
        rngs=rngs,
    )


class FoldedNorm(nnx.Module):
    """Replacement for a batch normalization that was folded into a convolution.

    It is the identity in inference mode. Outside inference mode it raises an error,
    because the batch statistics, and thus the function to train, no longer exist.
    """

    def __init__(self):
        self.use_running_average = False

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set the mode; ``nnx.view`` calls this method, as for ``nnx.BatchNorm``."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Return the input."""
        if not self.use_running_average:
            raise InvalidInputError(
                "a network with folded batch normalizations cannot be trained; train "
                "the original network, or call this one in inference mode with "
                "nnx.view(model, use_running_average=True)"
            )
        return x


class ConvNorm(nnx.Module):
    """Convolution followed by batch normalization.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel.
        stride: Spatial stride.
        padding: Zeros added on each side. It is explicit because, unlike most published
            networks, "SAME" pads a strided convolution on one side only. Networks that
            were trained in TensorFlow need "SAME".
        groups: Number of groups of channels that are convolved separately.
        use_bias: Whether the convolution has a bias. The normalization cancels it, but
            some published networks and their checkpoints have one.
        epsilon: Number that the normalization adds to the variance.
        kernel_init: Initializer of the kernel; by default Kaiming normal (fan-out).
        bias_init: Initializer of the convolution's bias.
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
        padding: Padding = 0,
        groups: int = 1,
        use_bias: bool = False,
        epsilon: float = 1e-5,
        kernel_init: nnx.Initializer = kaiming_normal,
        bias_init: nnx.Initializer = nnx.initializers.zeros,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = convolution(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            groups=groups,
            use_bias=use_bias,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm: BatchNorm | FoldedNorm = BatchNorm(
            out_channels, epsilon=epsilon, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Convolve and normalize channels-last feature maps."""
        return self.norm(self.conv(x))

    def torch_layers(self, conv: str, norm: str) -> Iterator[TorchLayer]:
        """Yield both layers with the given names."""
        if isinstance(self.norm, FoldedNorm):
            raise InvalidInputError(
                "a network with folded batch normalizations has no layers as "
                "published; convert the original network"
            )
        yield conv, self.conv
        yield norm, self.norm


def linear(
    in_features: int,
    out_features: int,
    *,
    kernel_init: nnx.Initializer = torch_uniform,
    bias_init: nnx.Initializer | None = None,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """Build a linear layer; the default initialization is U(±1/sqrt(in_features))."""
    bound = 1 / math.sqrt(in_features)

    def uniform(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(
        in_features,
        out_features,
        dtype=dtype,
        param_dtype=parameter_dtype(dtype),
        kernel_init=kernel_init,
        bias_init=uniform if bias_init is None else bias_init,
        rngs=rngs,
    )


def compute_dtype(dtype: DTypeLike | None) -> DTypeLike:
    """Check the compute dtype; None means float32."""
    if dtype is None:
        return jnp.float32
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InvalidInputError(
            "dtype must be float32, bfloat16, float16 or float64, "
            f"got {jnp.dtype(dtype).name}",
            argument="dtype",
        )
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    if jnp.finfo(dtype).bits > 32 and not x64:
        raise InvalidInputError(
            f"dtype {jnp.dtype(dtype).name} needs jax_enable_x64, which is off; enable "
            "it with jax.config.update('jax_enable_x64', True), or use float32",
            argument="dtype",
        )
    return dtype


def parameter_dtype(dtype: DTypeLike) -> DTypeLike:
    """Return the dtype of parameters: float64 if ``dtype`` is float64, else float32."""
    return dtype if jnp.finfo(dtype).bits > 32 else jnp.float32


def as_images(images: ArrayLike, dtype: DTypeLike) -> Array:
    """Convert normalized images to the compute dtype.

    Raises:
        TypeError: If the images are not floating point.
    """
    array = jnp.asarray(images)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InvalidTypeError(
            f"images must be floating point, got dtype {array.dtype}; "
            "normalize them with jaxkd.data.normalize",
            argument="images",
        )
    return array.astype(dtype)


def as_feature_map(
    images: ArrayLike, channels: int, *, dtype: DTypeLike
) -> Float[Array, "b h w c"]:
    """Convert normalized channels-last images to the compute dtype.

    Raises:
        InvalidInputError: If the images do not have four axes, the given number of
            channels and at least 8x8 pixels.
        TypeError: If the images are not floating point.
    """
    x = as_images(images, dtype)
    if x.ndim != 4 or x.shape[-1] != channels:
        raise InvalidInputError(
            f"images must be [batch, height, width, {channels}], got {x.shape}",
            argument="images",
        )
    check_image_size(*x.shape[1:3], smallest=SMALLEST_IMAGE)
    return x


def check_image_size(height: int, width: int, *, smallest: int) -> None:
    """Raise ``InvalidInputError`` unless both sides have ``smallest`` pixels."""
    if min(height, width) < smallest:
        raise InvalidInputError(
            f"images must be at least {smallest}x{smallest} pixels for this network, "
            f"got {height}x{width}; pad or enlarge them, or use the 'mlp'",
            argument="image_size",
        )


def check_numbers(name: str, values: Sequence[int], count: int, whose: str) -> None:
    """Raise ``InvalidInputError`` unless there are ``count`` positive numbers."""
    if len(values) != count:
        raise InvalidInputError(
            f"{name} must contain {count} numbers, {whose}, got {tuple(values)}",
            argument=name,
        )
    _checks.check_at_least(
        1, **{f"{name}[{i}]": value for i, value in enumerate(values)}
    )
