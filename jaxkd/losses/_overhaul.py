"""The partial distance of the overhaul of feature distillation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.losses._arguments import check_rank, common_arrays
from jaxkd.losses._symmetries import Arguments, Transformation, declare


@declare(
    Arguments.FEATURE_MAPS,
    invariant=frozenset(
        {Transformation.CHANNEL_PERMUTATION, Transformation.POSITION_PERMUTATION}
    ),
    settings={"margin": -0.5},
)
def overhaul(
    student: Float[ArrayLike, "batch h w c"],
    teacher: Float[ArrayLike, "batch h w c"],
    margin: Real[ArrayLike, "..."],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute the squared difference of preactivations where it affects the output.

    The teacher's preactivations pass through a ReLU with a margin :math:`m \le 0` per
    channel. Where the result is not positive, the student only has to stay below it:

    .. math::
        u = \max(t, m), \qquad
        \ell = \sum_{hwc} [s > u \text{ or } u > 0]\, (s - u)^2, \qquad
        \nabla_s \ell = 2\, [s > u \text{ or } u > 0]\, (s - u).

    Args:
        student: Feature map before the activation, mapped by a connector.
        teacher: Feature map of the teacher, of the same shape.
        margin: :math:`m`, one number or one for each channel; a constant for the
            gradient. As published, the mean of the teacher's negative values.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If a feature map is not floating point.
        ValueError: If the arrays differ in shape or are not feature maps, or if the
            margin's shape is neither ``()`` nor ``[channels]``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([-2.0, -2.0, 0.0]).reshape(1, 1, 1, 3)
        >>> teacher = jnp.array([-1.0, 1.0, -3.0]).reshape(1, 1, 1, 3)
        >>> print(losses.overhaul(student, teacher, -0.5))  # 0 + 9 + 0.25
        [9.25]

    References:
        Heo et al., `A Comprehensive Overhaul of Feature Distillation
        <https://arxiv.org/abs/1904.01866>`_, 2019, Eq. 2, 3 and 5.
    """
    s, t = common_arrays(
        stop_teacher_gradient=stop_teacher_gradient, student=student, teacher=teacher
    )
    _checks.check_same_shape(student=s, teacher=t)
    check_rank(4, "[batch, height, width, channels]", student=s, teacher=t)
    m = jax.lax.stop_gradient(jnp.asarray(margin, s.dtype))
    if m.shape not in ((), s.shape[-1:]):
        raise InvalidInputError(
            f"margin must be one number or one for each of {s.shape[-1]} channels, "
            f"got shape {m.shape}",
            argument="margin",
        )
    target = jnp.maximum(t, jnp.broadcast_to(m, t.shape))
    gap = jnp.where((s > target) | (target > 0.0), s - target, 0.0)
    return jnp.sum(gap * gap, axis=(-3, -2, -1))
