"""Connector of the overhaul of feature distillation."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd.heads._convolution import batch_norm, normalized

# Normal with variance 2/fan_out, as in the published implementation.
_HE_NORMAL = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class Connector(nnx.Module):
    """1x1 convolution without bias, then batch normalization, without activation.

    It maps the student's pre-activations to the number of the teacher's channels.

    Args:
        in_channels: Channels of the student's map.
        out_channels: Channels of the teacher's map.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> connector = heads.Connector(3, 5, rngs=nnx.Rngs(0))
        >>> connector(jnp.ones((2, 8, 8, 3))).shape
        (2, 8, 8, 5)

    References:
        Heo et al., `A Comprehensive Overhaul of Feature Distillation
        <https://arxiv.org/abs/1904.01866>`_, 2019, Sec. 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(1, in_channels=in_channels, out_channels=out_channels)
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            (1, 1),
            use_bias=False,
            dtype=dtype,
            param_dtype=dtype,
            kernel_init=_HE_NORMAL,
            rngs=rngs,
        )
        self.norm = batch_norm(out_channels, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[ArrayLike, "b h w c"]
    ) -> Float[Array, "b h w channels"]:
        """Map a batch of the student's feature maps."""
        return normalized(self.norm, self.conv(_checks.as_float_array(x, "x")))
