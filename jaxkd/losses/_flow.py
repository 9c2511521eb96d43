"""The flow between two feature maps of one network, compared across networks."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd._errors import InvalidInputError
from jaxkd.losses import _inputs
from jaxkd.losses._invariance import (
    Arguments,
    Declaration,
    Transformation,
)
from jaxkd.losses._pooling import pool_to_match


def flow_of_solution(
    student_low: Float[ArrayLike, "batch h1 w1 c1"],
    student_high: Float[ArrayLike, "batch h2 w2 c2"],
    teacher_low: Float[ArrayLike, "batch h3 w3 c1"],
    teacher_high: Float[ArrayLike, "batch h4 w4 c2"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Squared difference of the Gram matrices between two stages.

    With :math:`x` a network's lower and :math:`y` its higher feature map, the larger of
    them average-pooled to the smaller, which has :math:`P` positions,

    .. math::
        G_{ij} = \frac1P \sum_p x_{pi}\, y_{pj}, \qquad
        \ell = \frac{1}{c_1 c_2} \sum_{ij} (G^s_{ij} - G^t_{ij})^2, \qquad
        \nabla_{x^s} \ell = \frac{2}{P c_1 c_2}\, y^s (G^s - G^t)^\top,

    and :math:`\nabla_{y^s} \ell` likewise with :math:`x^s (G^s - G^t)`. A map that is
    pooled gets the gradient spread over its bins.

    Args:
        student_low: Feature map of an earlier stage of the student.
        student_high: Feature map of a later stage.
        teacher_low: The teacher's at the first stage, with as many channels as the
            student's; its size may differ.
        teacher_high: The teacher's at the second.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If an array is not floating point.
        ValueError: If an array is not a batch of feature maps, or if numbers of
            examples, or of the two networks' channels at a stage, differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> low, high = jnp.ones((1, 4, 4, 2)), jnp.ones((1, 2, 2, 3))
        >>> print(losses.flow_of_solution(low, 2 * high, low, high))
        [1.]

    References:
        Yim et al., `A Gift from Knowledge Distillation: Fast Optimization, Network
        Minimization and Transfer Learning
        <https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html>`_,
        2017, Eq. 1 and 2.
    """
    x_s, y_s, x_t, y_t = stage_pairs(
        stop_teacher_gradient=stop_teacher_gradient,
        student_low=student_low,
        student_high=student_high,
        teacher_low=teacher_low,
        teacher_high=teacher_high,
    )
    gap = _gram(x_s, y_s) - _gram(x_t, y_t)
    return jnp.mean(gap * gap, axis=(-2, -1))


FLOW_OF_SOLUTION = Declaration(
    flow_of_solution,
    Arguments.FEATURE_MAP_PAIRS,
    invariant=frozenset(
        {
            Transformation.CHANNEL_PERMUTATION,
            Transformation.ROTATION,
            Transformation.POSITION_PERMUTATION,
        }
    ),
)


def stage_pairs(*, stop_teacher_gradient: bool, **maps: ArrayLike) -> list[Array]:
    """Converts and checks two feature maps of the student and two of the teacher.

    Args:
        stop_teacher_gradient: Whether the teacher's are constants.
        **maps: ``student_low``, ``student_high``, ``teacher_low``, ``teacher_high``.

    Raises:
        TypeError: If one is not floating point.
        ValueError: If one is no batch of feature maps, or numbers of examples or of
            the two networks' channels differ.
    """
    arrays = _inputs.common_arrays(stop_teacher_gradient=stop_teacher_gradient, **maps)
    by_name = dict(zip(maps, arrays, strict=True))
    _inputs.check_rank(4, "[batch, height, width, channels]", **by_name)
    _inputs.check_same_batch(**by_name)
    for stage in ("low", "high"):
        student, teacher = by_name[f"student_{stage}"], by_name[f"teacher_{stage}"]
        if student.shape[-1] != teacher.shape[-1]:
            raise InvalidInputError(
                f"student_{stage} and teacher_{stage} must have the same number of "
                f"channels, got {student.shape[-1]} and {teacher.shape[-1]} "
                f"(shapes {student.shape} and {teacher.shape})"
            )
    return arrays


def _gram(
    low: Float[Array, "batch h1 w1 c1"], high: Float[Array, "batch h2 w2 c2"]
) -> Float[Array, "batch c1 c2"]:
    """Products of the channels of both, averaged over positions."""
    low, high = pool_to_match(low, high)
    positions = low.shape[-3] * low.shape[-2]
    return jnp.einsum("bhwi,bhwj->bij", low, high) / positions
