"""Losses of logits that treat the labeled class apart from the others."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Real

from jaxkd import _checks
from jaxkd._math import soft_target_divergence
from jaxkd.losses._arguments import (
    Logits,
    cross_entropy,
    exclude,
    log_softmax,
    prepare_labels,
    prepare_logits,
)
from jaxkd.losses._symmetries import SHIFT_INVARIANT, Arguments, declare


@declare(Arguments.LABELED_LOGITS, invariant=SHIFT_INVARIANT)
def decoupled_kl(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    target_weight: Real[ArrayLike, ""] = 1.0,
    non_target_weight: Real[ArrayLike, ""] = 8.0,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the KL divergence in two parts, target and non-target, weighted apart.

    With :math:`p = \mathrm{softmax}(z^t/T)`, :math:`q = \mathrm{softmax}(z^s/T)`, label
    :math:`y` and the predictions :math:`\hat p, \hat q` renormalized over the other
    classes,

    .. math::
        \ell = T^2 \left[
            \alpha \left(p_y \log \frac{p_y}{q_y}
                + (1 - p_y) \log \frac{1 - p_y}{1 - q_y}\right)
            + \beta \sum_{c \ne y} \hat p_c \log \frac{\hat p_c}{\hat q_c}\right], \\
        \frac{\partial \ell}{\partial z^s_y} = \alpha T (q_y - p_y), \qquad
        \frac{\partial \ell}{\partial z^s_c}
            = T \left[\beta (\hat q_c - \hat p_c)
                - \alpha (q_y - p_y)\, \hat q_c\right].

    :func:`soft_target_kl` has :math:`\alpha = 1` and :math:`\beta = 1 - p_y`: the more
    confident the teacher, the less the other classes count. The computation never
    subtracts a probability from one and never takes the log of a sum of probabilities.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        labels: Class numbers :math:`y`. If a label is masked or out of range, the first
            term is zero and the second runs over all classes.
        target_weight: :math:`\alpha`.
        non_target_weight: :math:`\beta`.
        temperature: Softening temperature :math:`T > 0`, finite.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the logits are not floating point, the labels are not integers,
            or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[2.0, 0.0, 0.0]])
        >>> teacher = jnp.array([[2.0, 1.0, 0.0]])
        >>> print(losses.decoupled_kl(
        ...     student, teacher, jnp.array([0]), temperature=1.0
        ... ).round(4))
        [0.9271]

    References:
        Zhao et al., `Decoupled Knowledge Distillation
        <https://arxiv.org/abs/2203.08679>`_, 2022, Eq. 7.
    """
    logits, is_target = _with_labels(
        student_logits, teacher_logits, labels, where, stop_teacher_gradient
    )
    _checks.check_finite_temperature(temperature=temperature)
    dtype = logits.student.dtype
    t, target_weight, non_target_weight = (
        jnp.asarray(x, dtype) for x in (temperature, target_weight, non_target_weight)
    )
    others = ~is_target if logits.where is None else logits.where & ~is_target
    both = jnp.any(is_target, axis=-1) & jnp.any(others, axis=-1)
    # One class against the rest: two classes with these logits.
    odds = [_log_odds(x / t, is_target, others, both) for x in logits[:2]]
    student, teacher = (jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in odds)
    target = soft_target_divergence(student, teacher, jnp.ones_like(t))
    student, teacher = (exclude(x, others) for x in logits[:2])
    non_target = soft_target_divergence(student, teacher, t)
    return target_weight * (t * (t * target)) + non_target_weight * non_target


@declare(Arguments.LABELED_LOGITS, invariant=SHIFT_INVARIANT, zero_at_equal=False)
def normalized_kl(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    labels: Integer[ArrayLike, "*batch"],
    *,
    non_target_weight: Real[ArrayLike, ""] = 1.5,
    temperature: Real[ArrayLike, ""] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the soft cross-entropy of the label and of the renormalized others.

    With :math:`p = \mathrm{softmax}(z^t)`, :math:`q = \mathrm{softmax}(z^s)`, label
    :math:`y` and :math:`\hat p, \hat q` the softmax of the logits over :math:`T`,
    without class :math:`y`,

    .. math::
        \ell = -p_y \log q_y
            - \gamma T^2 \sum_{c \ne y} \hat p_c \log \hat q_c, \\
        \frac{\partial \ell}{\partial z^s_y} = -p_y (1 - q_y), \qquad
        \frac{\partial \ell}{\partial z^s_c}
            = p_y q_c + \gamma T (\hat q_c - \hat p_c).

    These are cross-entropies, so the loss is not zero for equal logits.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        labels: Class numbers :math:`y`. If a label is masked or out of range, the first
            term is zero and the second runs over all classes.
        non_target_weight: :math:`\gamma`.
        temperature: Softening temperature :math:`T > 0` of the second term, finite.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, the labels are not integers,
            or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = teacher = jnp.array([[0.0, 0.0, 0.0]])
        >>> print(losses.normalized_kl(student, teacher, jnp.array([0])).round(4))
        [1.4059]

    References:
        Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
        Unified Approach with Normalized Loss and Customized Soft Labels
        <https://arxiv.org/abs/2303.13005>`_, 2023, Sec. 3.1.
    """
    logits, is_target = _with_labels(
        student_logits, teacher_logits, labels, where, stop_teacher_gradient
    )
    _checks.check_finite_temperature(temperature=temperature)
    t, weight = (
        jnp.asarray(x, logits.student.dtype) for x in (temperature, non_target_weight)
    )
    student, teacher = logits.masked()
    log_p, log_q = (log_softmax(x, jnp.ones_like(t)) for x in (teacher, student))
    target = cross_entropy(jnp.where(is_target, log_p, -jnp.inf), log_q)
    others = ~is_target if logits.where is None else logits.where & ~is_target
    log_p, log_q = (
        log_softmax(exclude(x, others), t) for x in (logits.teacher, logits.student)
    )
    non_target = jnp.where(jnp.any(others, axis=-1), cross_entropy(log_p, log_q), 0.0)
    return logits.of_rows(target + weight * (t * (t * non_target)))


def _with_labels(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    stop_teacher_gradient: bool,
) -> tuple[Logits, Bool[Array, "*batch classes"]]:
    logits = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    )
    is_target = prepare_labels(labels, logits.student)
    return logits, is_target if logits.where is None else is_target & logits.where


def _log_odds(
    scaled: Float[Array, "*batch classes"],
    is_target: Bool[Array, "*batch classes"],
    others: Bool[Array, "*batch classes"],
    both: Bool[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """Compute log(p_y / (1 - p_y)); zero in rows without a label or other classes."""
    target = jnp.sum(jnp.where(is_target, scaled, 0.0), axis=-1)
    rest = jax.nn.logsumexp(exclude(scaled, others), axis=-1)
    return jnp.where(both, target - rest, 0.0)
