"""Regressor of variational information distillation."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.heads._convolution import convolution

# Added to the learned variance by the loss, as in the published implementation.
_LEAST_VARIANCE = 1e-5


class VariationalRegressor(nnx.Module):
    r"""Normal distribution of the teacher's features, given the student's features.

    Three 1x1 convolutions without bias compute the mean. All have as many output
    channels as the teacher's map, and a ReLU follows the first two. The variance of
    channel c is :math:`\log(1 + e^{\lambda_c}) + 10^{-5}`.

    Args:
        in_channels: Channels of the student's feature maps.
        out_channels: Channels of the teacher's feature maps.
        initial_variance: Initial variance of all channels.
        dtype: Dtype of parameters and computation.
        rngs: Randomness for the initial parameters.

    Attributes:
        log_scale: :math:`\lambda`, the third argument of
            :func:`jaxkd.losses.variational_information`.

    Raises:
        ValueError: If the initial variance is not above 1e-5 and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> regressor = heads.VariationalRegressor(3, 5, rngs=nnx.Rngs(0))
        >>> regressor(jnp.ones((2, 4, 4, 3))).shape, regressor.log_scale.shape
        ((2, 4, 4, 5), (5,))

    References:
        Ahn et al., `Variational Information Distillation for Knowledge Transfer
        <https://arxiv.org/abs/1904.05835>`_, 2019, Sec. 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        initial_variance: float | int = 5.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(1, in_channels=in_channels, out_channels=out_channels)
        check_variance(initial_variance)
        widths = in_channels, out_channels, out_channels, out_channels
        self.convs = nnx.List(
            [
                convolution(
                    widths[i],
                    widths[i + 1],
                    (1, 1),
                    use_bias=False,
                    dtype=dtype,
                    rngs=rngs,
                )
                for i in range(3)
            ]
        )
        excess = initial_variance - _LEAST_VARIANCE
        # The inverse of softplus, without an exponential, which could overflow.
        start = excess + math.log(-math.expm1(-excess))
        self.log_scale = nnx.Param(jnp.full(out_channels, start, dtype))

    def __call__(self, x: Float[ArrayLike, "b h w c"]) -> Float[Array, "b h w out"]:
        """Compute the means for a batch of the student's feature maps."""
        y = _checks.as_float_array(x, "x")
        y = nnx.relu(self.convs[0](y))
        y = nnx.relu(self.convs[1](y))
        return self.convs[2](y)


def check_variance(initial_variance: float | int) -> None:
    """Raise ``ValueError`` unless the value is a valid initial variance."""
    _checks.check_finite_positive(initial_variance=initial_variance)
    if initial_variance <= _LEAST_VARIANCE:
        raise InvalidInputError(
            f"initial_variance must be above {_LEAST_VARIANCE:g}, the smallest "
            f"possible variance, got {initial_variance}",
            argument="initial_variance",
        )
