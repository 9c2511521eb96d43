r"""The soft-target KL divergence and its derivatives, exact at every temperature.

Notation: student logits :math:`z`, teacher logits :math:`v`, :math:`d = z - v`,
:math:`p = \mathrm{softmax}(v/T)`, :math:`q = \mathrm{softmax}(z/T)`,
:math:`K = \mathrm{KL}(p \| q)`, :math:`\ell = T^2 K`, :math:`u = d - \sum_k p_k d_k`
and :math:`w = u/T`, so that :math:`\log(q_k/p_k) = w_k - K`. From
:math:`\sum_k p_k w_k = 0` and :math:`\varphi_2(x) = (e^x - 1 - x)/x^2` follows

.. math::
    \ell = T^2 \log \sum_k p_k e^{w_k}
         = T^2 \log\left(1 + \frac{S}{T^2}\right), \qquad
    S = \sum_k p_k\, u_k^2\, \varphi_2(w_k).

No term of :math:`S` is negative, nothing cancels, and temperatures only divide, so
:math:`T = \infty` is a regular point. Three measures keep the relative error at a few
units in the last place where the formula alone does not:

* Logits are divided by :math:`T`, and :math:`d` is formed, with their rounding errors.
* :math:`d` is taken relative to the teacher's top class, then to its mean under
  :math:`p`: a class of nearly all the mass then gets a small :math:`u` from small
  numbers.
* Where :math:`w_k` is large, :math:`p_k (e^{w_k} - 1 - w_k)` is computed from the
  student's own exponential, which is accurate where that of the teacher underflows.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from jaxkd._math import _stable

# Above this w_k, e^w outweighs the 1 + w that is subtracted from it.
_TAIL = 2.0
# Above this largest log(p_k e^w_k) the logarithm is taken of the sum of exponentials,
# before they overflow; the rounding of logarithms near 7 no longer matters then.
_OVERFLOW = 8.0

Logits = Float[Array, "*batch classes"]
PerExample = Float[Array, "*batch 1"]


class _Softened(NamedTuple):
    """Exponentials of logits over T, relative to the largest, and their sum."""

    weights: Logits
    total: PerExample

    @property
    def probabilities(self) -> Logits:
        return self.weights / self.total

    def mean(self, x: Logits) -> PerExample:
        return _sum(self.weights * x) / self.total

    def covariance(self, x: Logits) -> Logits:
        """Compute (diag(p) - p p^T) x: also T dp when the logits move along x."""
        # The sum over a tangent must be an operation that can be transposed.
        p = self.probabilities
        return p * (x - jnp.sum(p * x, axis=-1, keepdims=True))


class _Difference(NamedTuple):
    """The difference of the logits around its mean, and the mean in two parts."""

    centered: Logits
    student_top: PerExample
    mean: PerExample
    mean_error: PerExample


def _sum(x: Logits) -> PerExample:
    return _stable.accurate_sum(x)[..., None]


def _largest(logits: Logits) -> PerExample:
    return jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))


def _soften(logits: Logits, temperature: Float[Array, ""]) -> _Softened:
    high, low = _stable.scaled_difference(logits, _largest(logits), temperature)
    weights = jnp.exp(high) * (1.0 + low)
    return _Softened(weights, _sum(weights))


def _finite(temperature: Float[Array, ""]) -> Float[Array, ""]:
    """Return T, or 0 for T = inf, where differences of probabilities vanish."""
    return jnp.where(jnp.isinf(temperature), 0.0, temperature)


def _support(student: Logits, teacher: Logits) -> tuple[Bool[Array, "..."], ...]:
    """Return masks: both logits finite, only the student's, only the teacher's."""
    in_student, in_teacher = ~jnp.isneginf(student), ~jnp.isneginf(teacher)
    return in_student & in_teacher, in_student & ~in_teacher, ~in_student & in_teacher


def _difference(student: Logits, teacher: Logits, p: _Softened) -> _Difference:
    """Center student - teacher under p; the subtracted shift is a constant."""
    shared, _, _ = _support(student, teacher)
    at_top = teacher == _largest(teacher)

    def relative_to_top(logits):
        logits = jnp.where(shared, logits, 0.0)
        top = _largest(jnp.where(at_top, logits, -jnp.inf))
        return top, *_stable.two_sum(logits, -top)

    top, z, z_error = relative_to_top(student)
    _, v, v_error = relative_to_top(teacher)
    d, d_error = _stable.two_sum(z, -v)
    d_error = d_error + (z_error - v_error)
    mean = jax.lax.stop_gradient(p.mean(d))
    d, error = _stable.two_sum(d, -mean)
    d_error = d_error + error
    rest = p.mean(d + d_error)
    return _Difference(jnp.where(shared, d + (d_error - rest), 0.0), top, mean, rest)


@jax.custom_jvp
def soft_target_divergence(
    student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Float[Array, "*batch"]:
    """Compute the loss of each example, by the formula of the module's docstring."""
    q, p = _soften(student, temperature), _soften(teacher, temperature)
    difference = _difference(student, teacher, p)
    u, w = difference.centered, difference.centered / temperature
    _, only_student, only_teacher = _support(student, teacher)

    # p_k e^w_k = exp(offset) * (weight of q)_k / (total of p).
    gap, gap_error = _stable.two_sum(_largest(student), -difference.student_top)
    gap, error = _stable.two_sum(gap, -difference.mean)
    gap_error = gap_error + error - difference.mean_error
    offset, offset_error = _stable.scaled_difference(gap, -gap_error, temperature)
    log_sum_exp = offset + jnp.log(q.total) - jnp.log(p.total)
    overflows = offset - jnp.log(p.total) > _OVERFLOW
    factor = jnp.exp(jnp.where(overflows, 0.0, offset)) * (1.0 + offset_error)

    scale = _finite(temperature)
    in_tail = (w > _TAIL) | only_student
    phi = _stable.exp_remainder(jnp.where(in_tail, 0.0, w), 2)
    bulk = (p.weights * u) * (u * phi)
    tail = scale * (scale * (factor * q.weights - p.weights * (1.0 + w)))
    s = _sum(jnp.where(in_tail, tail, bulk)) / p.total
    x = s / temperature / temperature
    loss = jnp.where(jnp.isinf(s), s, s * _stable.log1p_remainder(x, 1))
    loss = jnp.where(overflows, scale * (scale * log_sum_exp), loss)
    # A class that the student masks and the teacher does not costs infinitely much. At
    # T = inf so does the converse: p and q are uniform over different classes.
    infinite = only_teacher | (only_student & jnp.isinf(temperature))
    return jnp.where(jnp.any(infinite, axis=-1), jnp.inf, loss[..., 0])


@functools.partial(soft_target_divergence.defjvp, symbolic_zeros=True)
def _soft_target_divergence_jvp(primals, tangents):
    student_dot, teacher_dot, temperature_dot = tangents
    value = soft_target_divergence(*primals)
    value_dot = jnp.zeros_like(value)
    if not isinstance(student_dot, SymbolicZero):
        value_dot += jnp.sum(_student_gradient(*primals) * student_dot, axis=-1)
    if not isinstance(teacher_dot, SymbolicZero):
        value_dot += jnp.sum(_teacher_gradient(*primals) * teacher_dot, axis=-1)
    if not isinstance(temperature_dot, SymbolicZero):
        value_dot += _temperature_gradient(*primals) * temperature_dot
    return value, value_dot


@jax.custom_jvp
def _student_gradient(
    student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Logits:
    """Compute T (q - p), from the log of q / p where that is small."""
    p, q = _soften(teacher, temperature), _soften(student, temperature)
    u = _difference(student, teacher, p).centered
    p, q = p.probabilities, q.probabilities
    shared, _, _ = _support(student, teacher)
    loss = soft_target_divergence(student, teacher, temperature)[..., None]

    scaled_log_ratio = u - loss / temperature
    log_ratio = scaled_log_ratio / temperature
    near = shared & (jnp.abs(log_ratio) < 1.0) & (jnp.abs(u) < temperature)
    log_ratio = jnp.where(near, log_ratio, 0.0)
    gradient = jnp.where(
        near,
        p * scaled_log_ratio * _stable.exp_remainder(log_ratio, 1),
        _finite(temperature) * (q - p),
    )
    # The components sum to zero. An error of the loss shifts all log-ratios alike and
    # appears in the sum: subtract it again.
    return gradient - q * _sum(gradient)


@functools.partial(_student_gradient.defjvp, symbolic_zeros=True)
def _student_gradient_jvp(primals, tangents):
    student, teacher, temperature = primals
    student_dot, teacher_dot, temperature_dot = tangents
    gradient = _student_gradient(*primals)
    gradient_dot = jnp.zeros_like(gradient)
    p, q = _soften(teacher, temperature), _soften(student, temperature)
    if not isinstance(student_dot, SymbolicZero):
        gradient_dot += q.covariance(student_dot)
    if not isinstance(teacher_dot, SymbolicZero):
        gradient_dot -= p.covariance(teacher_dot)
    if not isinstance(temperature_dot, SymbolicZero):
        spread = q.covariance(_shifted(student)) - p.covariance(_shifted(teacher))
        gradient_dot += (gradient - spread) / temperature * temperature_dot
    return gradient, gradient_dot


def _teacher_gradient(
    student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Logits:
    """Compute -p_k u_k."""
    p = _soften(teacher, temperature)
    return -p.probabilities * _difference(student, teacher, p).centered


def _shifted(logits: Logits) -> Logits:
    """Return logits relative to the largest; masked logits become zero."""
    return jnp.where(jnp.isneginf(logits), 0.0, logits - _largest(logits))


@jax.custom_jvp
def _temperature_gradient(
    student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Float[Array, "*batch"]:
    r"""Compute the derivative in T, free of cancellation at high temperatures.

    The terms of the direct form are of order :math:`1/T` and cancel to
    :math:`1/T^2`. Once that is done by hand, with :math:`x = S/T^2`,
    :math:`\tilde v = v - \sum_k p_k v_k` and the remainders :math:`\varphi` of exp
    and :math:`\lambda` of log1p, it is

    .. math::
        \frac{1}{T^2} \sum_k p_k u_k^2 \left[2 u_k \varphi_3(w_k)
            - \frac{\varphi_2(w_k) (\tilde v_k + u_k)}{1 + x}\right]
        + \frac{x}{T} \left[\frac{\sum_k p_k u_k (\tilde v_k + u_k)}{1 + x}
            - 2 S \lambda_2(x)\right],

    used where every :math:`|w_k| < 1`. Further derivatives are those of the direct
    form, which suffers from the cancellation.
    """
    p = _soften(teacher, temperature)
    u = _difference(student, teacher, p).centered
    _, only_student, only_teacher = _support(student, teacher)
    w = u / temperature
    large = only_student | only_teacher | (jnp.abs(w) >= 1.0)
    w = jnp.where(large, 0.0, w)
    v = jnp.where(p.weights > 0.0, _shifted(teacher), 0.0)
    z = v - p.mean(v) + u
    phi_2, phi_3 = _stable.exp_remainder(w, 2), _stable.exp_remainder(w, 3)
    s = p.mean(u * u * phi_2)
    x = s / temperature / temperature
    cubic = p.mean(u * u * (2.0 * u * phi_3 - z * phi_2 / (1.0 + x)))
    quartic = p.mean(u * z) / (1.0 + x) - 2.0 * s * _stable.log1p_remainder(x, 2)
    stable = cubic / temperature + x * quartic
    stable = (stable / temperature)[..., 0]
    direct = _temperature_gradient_directly(student, teacher, temperature)
    return jnp.where(jnp.any(large, axis=-1), direct, stable)


@_temperature_gradient.defjvp
def _temperature_gradient_jvp(primals, tangents):
    _, gradient_dot = jax.jvp(_temperature_gradient_directly, primals, tangents)
    return _temperature_gradient(*primals), gradient_dot


def _temperature_gradient_directly(
    student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Float[Array, "*batch"]:
    """Compute 2TK - sum_k (q_k - p_k) z_k + Cov_p(u, v) / T."""
    p = _soften(teacher, temperature)
    u = _difference(student, teacher, p).centered
    total = 2.0 * soft_target_divergence(student, teacher, temperature)[..., None]
    total -= _sum(_student_gradient(student, teacher, temperature) * _shifted(student))
    # A class without mass must not affect the mean, however far its logit is away.
    total += p.mean(u * jnp.where(p.weights > 0.0, _shifted(teacher), 0.0))
    return (total / temperature)[..., 0]
