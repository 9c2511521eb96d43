"""The regressor that brings a student's feature map to the teacher's shape."""

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
    r"""A convolution that matches shapes, batch normalisation and a ReLU.

    The convolution depends on the sizes, heights and widths alike:

    - 3x3 with stride 2 and padding 1 if the student's map is twice the teacher's;
    - 4x4, transposed, with stride 2 and padding 1 if it is half the teacher's;
    - without padding, of size 1 + student's - teacher's, if it is as large or larger.

    Weights start as PyTorch's do: uniform, within one over the root of the number of
    inputs (of the transposed convolution: outputs).

    Args:
        student_shape: ``(height, width, channels)`` of the student's maps.
        teacher_shape: ``(height, width, channels)`` of the teacher's.
        activate: Whether a ReLU comes last; ``False`` for maps before their activation.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Raises:
        ValueError: If the student's map is smaller than the teacher's and not half of
            it.

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
        # A bias would have no gradient: the normalisation takes the mean out.
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
                "the student's map must be at least as large as the teacher's, or half "
                f"of it, got {height}x{width} and {target_height}x{target_width}; "
                "choose another stage or another pair of networks"
            )
        self.norm = batch_norm(out, **norm)
        self.activate = activate

    def __call__(
        self, x: Float[ArrayLike, "b h w c"]
    ) -> Float[Array, "b height width channels"]:
        """Maps a batch of the student's feature maps."""
        y = normalized(self.norm, self.conv(_checks.as_float_array(x, "x")))
        return nnx.relu(y) if self.activate else y


def _check_shape(name: str, shape: Sequence[int]) -> None:
    if len(shape) != 3:
        raise InvalidInputError(
            f"{name} must be (height, width, channels), got {tuple(shape)}"
        )
    for side, size in zip(("height", "width", "channels"), shape, strict=True):
        _checks.check_at_least(1, **{f"the {side} of {name}": size})
