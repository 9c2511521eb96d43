"""Regressor that maps the student's feature maps to the teacher's shape."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.heads._convolution import (
    batch_norm,
    convolution,
    normalized,
    transposed_convolution,
)


class Regressor(nnx.Module):
    r"""Convolution to the teacher's shape, batch normalization and ReLU.

    The convolution depends on the heights and widths of both maps:

    - 3x3 with stride 2 and padding 1 if the student's map is twice the teacher's size;
    - 4x4, transposed, with stride 2 and padding 1 if it is half the teacher's size;
    - without padding, of size 1 + student's size - teacher's size, if it is at least as
      large.

    The weights are initialized as in PyTorch: uniform within :math:`\pm 1/\sqrt{n}`,
    where n is the number of inputs (of outputs for the transposed convolution).

    Args:
        student_shape: ``(height, width, channels)`` of the student's maps.
        teacher_shape: ``(height, width, channels)`` of the teacher's maps.
        activate: Whether to apply a ReLU; use ``False`` for pre-activations.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Raises:
        ValueError: If the student's map is smaller than the teacher's but not half its
            size.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> regressor = heads.Regressor((8, 8, 3), (4, 4, 5), rngs=nnx.Rngs(0))
        >>> regressor(jnp.ones((2, 8, 8, 3))).shape
        (2, 4, 4, 5)

    References:
        Romero et al., `FitNets: Hints for Thin Deep Nets
        <https://arxiv.org/abs/1412.6550>`_, 2015, Sec. 2.2; with the convolutions of
        published benchmarks.
    """

    def __init__(
        self,
        student_shape: Sequence[int],
        teacher_shape: Sequence[int],
        *,
        activate: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check_shape("student_shape", student_shape)
        _check_shape("teacher_shape", teacher_shape)
        height, width, channels = student_shape
        target_height, target_width, out = teacher_shape
        norm = {"dtype": dtype, "rngs": rngs}
        # A bias would have no gradient, since the normalization subtracts the mean.
        options = {"use_bias": False, **norm}
        if (height, width) == (2 * target_height, 2 * target_width):
            self.conv = convolution(
                channels, out, (3, 3), stride=2, padding=1, **options
            )
        elif (2 * height, 2 * width) == (target_height, target_width):
            self.conv = transposed_convolution(channels, out, 4, stride=2, **options)
        elif height >= target_height and width >= target_width:
            kernel = 1 + height - target_height, 1 + width - target_width
            self.conv = convolution(channels, out, kernel, **options)
        else:
            raise InvalidInputError(
                "student_shape must be at least as large as teacher_shape, or half of "
                f"it, got maps of {height}x{width} and {target_height}x{target_width}; "
                "choose another stage or another pair of networks",
                argument="student_shape",
            )
        self.norm = batch_norm(out, **norm)
        self.activate = activate

    def __call__(
        self, x: Float[ArrayLike, "b h w c"]
    ) -> Float[Array, "b height width channels"]:
        """Map a batch of the student's feature maps."""
        y = normalized(self.norm, self.conv(_checks.as_float_array(x, "x")))
        return nnx.relu(y) if self.activate else y


def _check_shape(name: str, shape: Sequence[int]) -> None:
    if len(shape) != 3:
        raise InvalidInputError(
            f"{name} must be (height, width, channels), got {tuple(shape)}",
            argument=name,
        )
    for i, size in enumerate(shape):
        _checks.check_at_least(1, **{f"{name}[{i}]": size})
