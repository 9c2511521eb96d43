"""The hierarchical context loss of knowledge review."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._math import adaptive_average_pool
from jaxkd.losses._arguments import check_rank, common_arrays
from jaxkd.losses._symmetries import Arguments, Transformation, declare

_LEVELS = (4, 2, 1)


@declare(
    Arguments.FEATURE_MAPS,
    invariant=frozenset(
        {
            Transformation.TRANSLATION,
            Transformation.CHANNEL_PERMUTATION,
            Transformation.ROTATION,
        }
    ),
)
def review(
    student: Float[ArrayLike, "batch h w c"],
    teacher: Float[ArrayLike, "batch h w c"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute mean squared differences of feature maps pooled to several sizes.

    With :math:`\pi_n` average-pooling to :math:`n \times n` and :math:`n_1, n_2, \dots`
    those of 4, 2, 1 that are smaller than the map's height and width,

    .. math::
        \ell = \frac{\mathrm{mean}(d^2) + \sum_i 2^{-i}\, \mathrm{mean}(\pi_{n_i}(d)^2)}
                    {1 + \sum_i 2^{-i}}, \qquad d = s - t.

    A map above 4×4 has the weights 1, ½, ¼ and ⅛, divided by their sum; one that is
    4×4 or smaller has fewer levels, and the first of them still has the weight ½, as
    published. For a map of one position the loss is the mean squared difference. With
    :math:`w_0, w_i` the weights and :math:`N = hwc`, :math:`N_i = n_i^2 c`,

    .. math::
        \nabla_s \ell = \frac{2 w_0}{N} d
            + \sum_i \frac{2 w_i}{N_i} \pi_{n_i}^\top \pi_{n_i} d.

    Args:
        student: Feature map of the student, fused with its deeper ones.
        teacher: Feature map of the teacher, of the same shape.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If a feature map is not floating point.
        ValueError: If the arrays differ in shape or are not feature maps.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([1.0, -1.0, 1.0, -1.0]).reshape(1, 2, 2, 1)
        >>> teacher = jnp.zeros((1, 2, 2, 1))
        >>> print(losses.review(student, teacher).round(4))  # (1 + 0/2) / (1 + 1/2)
        [0.6667]

    References:
        Chen et al., `Distilling Knowledge via Knowledge Review
        <https://arxiv.org/abs/2104.09044>`_, 2021, Sec. 3.3.
    """
    s, t = common_arrays(
        stop_teacher_gradient=stop_teacher_gradient, student=student, teacher=teacher
    )
    _checks.check_same_shape(student=s, teacher=t)
    check_rank(4, "[batch, height, width, channels]", student=s, teacher=t)
    gap = s - t  # pooling is linear: one difference serves all sizes
    total, weights, weight = _mean_square(gap), 1.0, 1.0
    for level in _LEVELS:
        if level < min(gap.shape[1:3]):
            weight /= 2
            pooled = adaptive_average_pool(gap, level, level)
            total = total + weight * _mean_square(pooled)
            weights += weight
    return total / weights


def _mean_square(x: Float[Array, "batch h w c"]) -> Float[Array, " batch"]:
    return jnp.mean(x * x, axis=(-3, -2, -1))
