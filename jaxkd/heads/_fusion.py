"""Attention-based fusion of knowledge review."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.heads._convolution import batch_norm, convolution, normalized

# Uniform with variance 1/fan_in, as in the published implementation.
_UNIFORM = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")


class AttentionFusion(nnx.Module):
    r"""Fusion of a stage's feature map with the residual of the deeper stages.

    Let :math:`x` be the stage's map after a 1x1 convolution to ``mid_channels`` and
    batch normalization, :math:`r` the residual of the deeper stages, resized to the
    size of :math:`x`, and :math:`a, b` one weight per position:

    .. math::
        (a, b) = \mathrm{sigmoid}(\mathrm{conv}_{1 \times 1}([x; r])), \qquad
        r' = \mathrm{resize}(a\,x + b\,r), \qquad
        y = \mathrm{BN}(\mathrm{conv}_{3 \times 3}(r')).

    The result :math:`y` has the teacher's size and channels and is compared with its
    map. The residual :math:`r'` is passed to the next shallower stage. Maps are resized
    by nearest neighbors. The deepest stage has no residual:
    :math:`r' = \mathrm{resize}(x)`.

    Args:
        in_channels: Channels of the student's map.
        mid_channels: Channels of the residual.
        out_channels: Channels of the teacher's map.
        fuse: Whether the stage receives a residual.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> fusion = heads.AttentionFusion(3, 8, 5, rngs=nnx.Rngs(0))
        >>> x, residual = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 2, 2, 8))
        >>> compared, residual = fusion(x, residual, (4, 4))
        >>> compared.shape, residual.shape
        ((2, 4, 4, 5), (2, 4, 4, 8))

    References:
        Chen et al., `Distilling Knowledge via Knowledge Review
        <https://arxiv.org/abs/2104.09044>`_, 2021, Sec. 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        fuse: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(
            1,
            in_channels=in_channels,
            mid_channels=mid_channels,
            out_channels=out_channels,
        )

        def conv(inputs, outputs, size):
            return nnx.Conv(
                inputs,
                outputs,
                (size, size),
                padding=size // 2,
                use_bias=False,
                dtype=dtype,
                param_dtype=dtype,
                kernel_init=_UNIFORM,
                rngs=rngs,
            )

        self.conv_in = conv(in_channels, mid_channels, 1)
        self.norm_in = batch_norm(mid_channels, dtype=dtype, rngs=rngs)
        self.attention = (
            convolution(2 * mid_channels, 2, (1, 1), dtype=dtype, rngs=rngs)
            if fuse
            else None
        )
        self.conv_out = conv(mid_channels, out_channels, 3)
        self.norm_out = batch_norm(out_channels, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[ArrayLike, "b h w c"],
        residual: Float[Array, "b h2 w2 mid"] | None,
        size: Sequence[int],
    ) -> tuple[Float[Array, "b h3 w3 channels"], Float[Array, "b h3 w3 mid"]]:
        """Return the map to compare with the teacher's, and the next residual.

        Args:
            x: The student's map.
            residual: Residual of the next deeper stage; None if ``fuse`` is False.
            size: Height and width of the teacher's map.

        Raises:
            ValueError: If a residual is missing, or given although ``fuse`` is False.
        """
        if (residual is None) != (self.attention is None):
            raise InvalidInputError(
                "residual must be given if and only if fuse is True, got "
                f"{'none' if residual is None else residual.shape}",
                argument="residual",
            )
        x = normalized(self.norm_in, self.conv_in(_checks.as_float_array(x, "x")))
        if self.attention is not None and residual is not None:
            residual = resize_nearest(residual, x.shape[1:3])
            weights = nnx.sigmoid(self.attention(jnp.concatenate([x, residual], -1)))
            x = x * weights[..., :1] + residual * weights[..., 1:]
        x = resize_nearest(x, size)
        return normalized(self.norm_out, self.conv_out(x)), x


def resize_nearest(
    x: Float[Array, "b h w c"], size: Sequence[int]
) -> Float[Array, "b h2 w2 c"]:
    """Resize from m to n by taking floor(i m / n) for position i, as PyTorch does."""
    for axis, new in zip((1, 2), size, strict=True):
        old = x.shape[axis]
        if new % old == 0:  # Needs no gather.
            x = jnp.repeat(x, new // old, axis=axis)
        else:
            x = jnp.take(x, np.arange(new) * old // new, axis=axis)
    return x
