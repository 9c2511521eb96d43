"""Divergences other than the KL divergence from the teacher to the student."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import _stable, soft_target_divergence
from jaxkd.losses._arguments import log_softmax, prepare_logits
from jaxkd.losses._symmetries import SHIFT_INVARIANT, Arguments, declare


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT)
def reverse_kl(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the KL divergence from the softened student to the softened teacher.

    With :math:`p = \mathrm{softmax}(z^t/T)`, :math:`q = \mathrm{softmax}(z^s/T)` and
    :math:`d = z^s - z^t`,

    .. math::
        \ell = T^2 \sum_c q_c (\log q_c - \log p_c), \qquad
        \nabla_{z^s} \ell = q \odot \left(d - q^\top d\right), \qquad
        \nabla_{z^t} \ell = T (p - q).

    The student concentrates on one mode of the teacher instead of covering all modes.
    This is :func:`soft_target_kl` with exchanged roles: it is as accurate at every
    temperature and has the same limit at :math:`T = \infty`. A class that only the
    teacher masks with ``-inf`` makes it infinite.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[2.0, 0.0]])
        >>> print(losses.reverse_kl(student, teacher).round(2))
        [1.01]

    References:
        Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
        <https://arxiv.org/abs/2306.08543>`_, 2024, Sec. 2.1.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_temperature(temperature=temperature)
    return soft_target_divergence(
        teacher, student, jnp.asarray(temperature, student.dtype)
    )


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT, settings={"mixture": 0.3})
def jensen_shannon(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    mixture: float | int = 0.5,
    temperature: Real[ArrayLike, ""] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the generalized Jensen-Shannon divergence of softened predictions.

    With :math:`p = \mathrm{softmax}(z^t/T)`, :math:`q = \mathrm{softmax}(z^s/T)` and
    :math:`m = \beta p + (1 - \beta) q`,

    .. math::
        \ell = T^2 \left[\beta\, \mathrm{KL}(p \| m)
            + (1 - \beta)\, \mathrm{KL}(q \| m)\right], \qquad
        \frac{\partial \ell}{\partial z^s_c} = (1 - \beta)\, T\, q_c
            \left(\log \frac{q_c}{m_c} - \mathrm{KL}(q \| m)\right).

    For small :math:`\beta` the loss approaches :math:`\beta` times
    :func:`soft_target_kl`, for large :math:`\beta` it approaches :math:`1 - \beta`
    times :func:`reverse_kl`. It is bounded, by :math:`T^2 \log 2` for :math:`\beta =
    1/2`, also where only one network masks a class with ``-inf``. No term of the sum is
    negative, and at high temperatures nothing cancels: at :math:`T = \infty` it is
    :math:`\beta (1 - \beta)` times the limit of :func:`soft_target_kl`.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        mixture: :math:`0 < \beta < 1`, the teacher's share of :math:`m`.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, if
            ``mixture`` is not between 0 and 1, or if a concrete temperature is not
            positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
        >>> print(losses.jensen_shannon(student, teacher).round(4))
        [0.1109]

    References:
        Agarwal et al., `On-Policy Distillation of Language Models
        <https://arxiv.org/abs/2306.13649>`_, 2024, Sec. 2.
    """
    _checks.check_in_range(0.0, 1.0, mixture=mixture)
    if mixture in (0, 1):
        raise InvalidInputError(
            f"mixture must lie strictly between 0 and 1, got {mixture}; the limits "
            "are soft_target_kl and reverse_kl",
            argument="mixture",
        )
    _checks.check_positive(mixture=mixture)
    pair = _pair(
        student_logits, teacher_logits, temperature, where, stop_teacher_gradient
    )
    beta = float(mixture)
    from_teacher = _to_mixture(pair, beta)
    from_student = _to_mixture(pair.exchanged(), 1.0 - beta)
    return beta * from_teacher + (1.0 - beta) * from_student


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT)
def skewed_kl(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    skew: float | int = 0.1,
    temperature: Real[ArrayLike, ""] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the KL divergence from the teacher to a mixture of both networks.

    With :math:`p = \mathrm{softmax}(z^t/T)`, :math:`q = \mathrm{softmax}(z^s/T)` and
    :math:`m = \alpha p + (1 - \alpha) q`,

    .. math::
        \ell = T^2\, \mathrm{KL}(p \| m), \qquad
        \frac{\partial \ell}{\partial z^s_c} = (1 - \alpha)\, T\, q_c
            \left(\sum_k q_k \frac{p_k}{m_k} - \frac{p_c}{m_c}\right).

    The ratio :math:`p/m` is at most :math:`1/\alpha`, so a class that the student
    misses does not dominate the gradient. :math:`\alpha = 0` is :func:`soft_target_kl`.
    No term of the sum is negative, and at high temperatures nothing cancels: at
    :math:`T = \infty` it is :math:`(1 - \alpha)^2` times the limit of
    :func:`soft_target_kl`.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        skew: :math:`0 \le \alpha \le 1`, the teacher's share of :math:`m`.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, if ``skew``
            is not in [0, 1], or if a concrete temperature is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
        >>> print(losses.skewed_kl(student, teacher).round(4))
        [0.3638]

    References:
        Ko et al., `DistiLLM: Towards Streamlined Distillation for Large Language
        Models <https://arxiv.org/abs/2402.03898>`_, 2024, Sec. 3.1.
    """
    _checks.check_in_range(0.0, 1.0, skew=skew)
    pair = _pair(
        student_logits, teacher_logits, temperature, where, stop_teacher_gradient
    )
    return _to_mixture(pair, float(skew))


class _Pair(NamedTuple):
    """Two softened predictions and T times the log of their ratio."""

    log_p: Float[Array, "*batch classes"]
    log_q: Float[Array, "*batch classes"]
    # T log(q / p) where both are close, and which rows those are.
    scaled_log_ratio: Float[Array, "*batch classes"]
    close: Bool[Array, "*batch"]
    temperature: Float[Array, ""]

    def exchanged(self) -> "_Pair":
        return self._replace(
            log_p=self.log_q,
            log_q=self.log_p,
            scaled_log_ratio=-self.scaled_log_ratio,
        )


def _pair(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike,
    where: ArrayLike | None,
    stop_teacher_gradient: bool,
) -> _Pair:
    """Soften the teacher (p) and the student (q).

    The difference of two log-softmax is rounded at the size of log(classes), which is
    more than the difference itself at high temperatures. In rows that are close it is
    taken from the logits: with u the difference of the logits around its mean under
    p, log(q/p) = u/T - K and K = log sum_k p_k e^(u_k/T), without the linear terms.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_temperature(temperature=temperature)
    t = jnp.asarray(temperature, student.dtype)
    log_p, log_q = log_softmax(teacher, t), log_softmax(student, t)
    p = jnp.exp(log_p)
    in_student, in_teacher = ~jnp.isneginf(student), ~jnp.isneginf(teacher)
    shared = in_student & in_teacher
    d = jnp.where(shared, _from_largest(student) - _from_largest(teacher), 0.0)
    u = jnp.where(shared, d - jnp.sum(p * d, axis=-1, keepdims=True), 0.0)
    close = jnp.all((jnp.abs(u) < t) & (in_student == in_teacher), axis=-1)
    u = jnp.where(close[..., None], u, 0.0)
    s = jnp.sum(p * u * u * _stable.exp_remainder(u / t, 2), axis=-1)
    scaled_k = s / t * _stable.log1p_remainder(s / t / t, 1)
    scaled_log_ratio = jnp.where(shared, u - scaled_k[..., None], 0.0)
    return _Pair(log_p, log_q, scaled_log_ratio, close, t)


def _from_largest(logits: Float[Array, "*batch classes"]) -> Array:
    """Subtract the largest logit, which cancels later; masked logits become zero."""
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return jnp.where(jnp.isneginf(logits), 0.0, logits - largest)


def _to_mixture(pair: _Pair, share: float) -> Float[Array, "*batch"]:
    r"""Compute T^2 KL(p || m) for m = share p + (1 - share) q.

    With :math:`y = (m - p) / p` it is :math:`T^2 \sum_c p_c (y_c - \log(1 + y_c))`,
    because the :math:`p_c y_c` add up to nothing; and :math:`y - \log(1 + y)` is
    :math:`y^2 \lambda_2(y)`.
    """
    t, rest = pair.temperature, 1.0 - share
    p, q = jnp.exp(pair.log_p), jnp.exp(pair.log_q)
    close = pair.close[..., None]
    log_ratio = pair.scaled_log_ratio / t
    scaled_y = rest * pair.scaled_log_ratio * _stable.exp_remainder(log_ratio, 1)
    remainder = _stable.log1p_remainder(scaled_y / t, 2)
    close_loss = jnp.sum(p * scaled_y * scaled_y * remainder, axis=-1)

    # log(m / p), of classes that p has, in the other rows.
    far = ~close & ~jnp.isneginf(pair.log_p)
    log_q = jnp.where(far, pair.log_q, 0.0)
    log_ratio = log_q - jnp.where(far, pair.log_p, 0.0)
    log_m = jnp.logaddexp(_log(share), _log(rest) + log_ratio)
    far_loss = jnp.sum(rest * (q - p) - p * jnp.where(far, log_m, 0.0), axis=-1)
    scale = jnp.where(jnp.isinf(t), 0.0, t)
    return jnp.where(pair.close, close_loss, scale * (scale * far_loss))


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
