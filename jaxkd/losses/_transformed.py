"""Divergences of a softened teacher to a student without temperature."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxkd import _checks
from jaxkd.losses._divergence import soft_target_divergence
from jaxkd.losses._invariance import (
    Arguments,
    Declaration,
    Transformation,
)
from jaxkd.losses._logit_inputs import log_softmax, prepare_logits

_SEES_NO_SHIFT = frozenset(
    {
        Transformation.STUDENT_SHIFT,
        Transformation.COMMON_SHIFT,
        Transformation.CLASS_PERMUTATION,
    }
)


def transformed_teacher_matching(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Kullback-Leibler divergence from the softened teacher to the student as it is.

    With :math:`p_T = \mathrm{softmax}(z^t/T)`, the power transform
    :math:`p^\gamma / \sum_k p_k^\gamma` of the teacher's prediction for
    :math:`\gamma = 1/T`, and :math:`q = \mathrm{softmax}(z^s)`,

    .. math::
        \ell = \sum_c p_{T,c} (\log p_{T,c} - \log q_c), \qquad
        \nabla_{z^s} \ell = q - p_T.

    There is no factor :math:`T^2`: the gradient does not shrink with the temperature,
    since the student has none. At the same logits this is :func:`soft_target_kl` for a
    temperature of 1 alone.

    Args:
        student_logits: Unnormalised log-probabilities :math:`z^s`.
        teacher_logits: Unnormalised log-probabilities :math:`z^t`.
        temperature: The teacher's temperature :math:`T > 0`, finite.
        where: Classes that take part, of a shape that broadcasts to that of the
            logits. A row without any has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[4.0, 0.0]])
        >>> print(losses.transformed_teacher_matching(student, teacher).round(4))
        [0.4621]

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, Sec. 4.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_finite_positive(temperature=temperature)
    t = jnp.asarray(temperature, student.dtype)
    return soft_target_divergence(student, teacher / t, jnp.ones_like(t))


TRANSFORMED_TEACHER_MATCHING = Declaration(
    transformed_teacher_matching, Arguments.LOGITS, invariant=_SEES_NO_SHIFT
)


def weighted_transformed_teacher_matching(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Transformed teacher matching that weights examples the teacher finds hard.

    With :math:`p = \mathrm{softmax}(z^t)` and :math:`\gamma = 1/T`,

    .. math::
        \ell = U_\gamma(p)\, \ell_{\mathrm{TTM}}, \qquad
        U_\gamma(p) = \sum_c p_c^\gamma,

    where :math:`\ell_{\mathrm{TTM}}` is :func:`transformed_teacher_matching`. For
    :math:`T > 1` the power sum is 1 for a one-hot prediction and
    :math:`C^{1 - \gamma}` for the uniform one of :math:`C` classes.

    Args:
        student_logits: Unnormalised log-probabilities :math:`z^s`.
        teacher_logits: Unnormalised log-probabilities :math:`z^t`.
        temperature: The teacher's temperature :math:`T > 0`, finite.
        where: Classes that take part, of a shape that broadcasts to that of the
            logits. A row without any has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 0.0]])
        >>> print(losses.weighted_transformed_teacher_matching(
        ...     student, teacher, temperature=2.0
        ... ).round(4))
        [0.1699]

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, Sec. 5.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_finite_positive(temperature=temperature)
    t = jnp.asarray(temperature, student.dtype)
    matching = soft_target_divergence(student, teacher / t, jnp.ones_like(t))
    log_p = log_softmax(teacher, jnp.ones_like(t))
    return jnp.exp(jax.nn.logsumexp(log_p / t, axis=-1)) * matching


WEIGHTED_TRANSFORMED_TEACHER_MATCHING = Declaration(
    weighted_transformed_teacher_matching, Arguments.LOGITS, invariant=_SEES_NO_SHIFT
)
