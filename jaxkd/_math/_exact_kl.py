r"""The soft-target KL divergence and its derivatives, exact at every temperature.

Notation: student logits :math:`z`, teacher logits :math:`v`,
:math:`p = \mathrm{softmax}(v/T)`, :math:`q = \mathrm{softmax}(z/T)`,
:math:`\ell = T^2\, \mathrm{KL}(p \| q)`. For any number :math:`c` let
:math:`u_k = z_k - v_k - c`, :math:`w = u/T` and :math:`y = \sum_k p_k (e^{w_k} - 1)`.
From :math:`\log(q_k/p_k) = w_k - \log(1 + y)` and the remainders
:math:`\varphi_2(x) = (e^x - 1 - x)/x^2` and
:math:`\lambda_2(x) = (x - \log(1 + x))/x^2` follow

.. math::
    \ell = S - (T y)^2 \lambda_2(y), \qquad
    S = \sum_k p_k\, u_k^2\, \varphi_2(w_k), \qquad
    \frac{\partial \ell}{\partial z_k}
        = \frac{T p_k}{1 + y} \left(e^{w_k} - 1 - y\right).

No term of :math:`S` is negative. The best :math:`c` makes :math:`y = 0`. It need not be
known to the last digit: :math:`y` is summed too, and an error of :math:`c` enters as
its square. So nothing cancels, and temperatures only divide: :math:`T = \infty` is a
regular point. Four measures keep the relative error at a few units in the last place
where the formula alone does not:

* Logits are divided by :math:`T`, and :math:`z - v` is formed, with their rounding
  errors.
* :math:`z - v` is taken relative to the difference of the largest logits, so that a
  class of nearly all the mass gets a small :math:`u` from small numbers.
* :math:`c` is :math:`T` times the logarithm of the ratio of both sums of exponentials,
  which makes :math:`y = 0`. At high temperatures that is too inaccurate, and
  :math:`c` is the mean of the differences under :math:`p`.
* Where :math:`w_k` is not small, :math:`p_k e^{w_k}` is computed from the student's own
  exponential, which is accurate where that of the teacher underflows.

The last logit may stand for several equal classes, whose probabilities are added:
then its exponentials count as often, and nothing else changes.

The cost is the number of passes over memory. One pass each computes the exponentials
of both networks, their differences, the terms of :math:`S`, those of :math:`y`, and the
gradient; the sums read what these wrote.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float

from jaxkd._math import _stable

# Outside of this interval, e^w - 1 - w does not cancel: it is at least a third of e^w
# or of the rest.
_LOW, _HIGH = -1.0, 2.0
# Up to this distance, the mean difference over T is as good as the logarithm of the
# ratio of both sums of exponentials, whose rounding error matters at high temperatures.
_CLOSE = 1e-3

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


def _sum(x: Logits) -> PerExample:
    return _stable.pairwise_sum(x)[..., None]


def _largest(logits: Logits) -> PerExample:
    return jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))


def _soften(
    logits: Logits, temperature: Float[Array, ""], last_count: int
) -> _Softened:
    high, low = _stable.scaled_difference(logits, _largest(logits), temperature)
    weights = jnp.exp(high) * (1.0 + low)
    if last_count != 1:
        weights = weights.at[..., -1].multiply(last_count)
    return _Softened(weights, _sum(weights))


def _finite(temperature: Float[Array, ""]) -> Float[Array, ""]:
    """Return T, or 0 for T = inf, where differences of probabilities vanish."""
    return jnp.where(jnp.isinf(temperature), 0.0, temperature)


def _support(student: Logits, teacher: Logits) -> tuple[Bool[Array, "..."], ...]:
    """Return masks: both logits finite, only the student's, only the teacher's."""
    in_student, in_teacher = ~jnp.isneginf(student), ~jnp.isneginf(teacher)
    return in_student & in_teacher, in_student & ~in_teacher, ~in_student & in_teacher


def _centered(student: Logits, teacher: Logits, p: _Softened) -> Logits:
    """Center student - teacher under p: each entry is accurate, and so is the mean."""
    shared, _, _ = _support(student, teacher)
    at_top = teacher == _largest(teacher)
    z, v = (jnp.where(shared, x, 0.0) for x in (student, teacher))
    z_top, v_top = (_largest(jnp.where(at_top, x, -jnp.inf)) for x in (z, v))
    d, d_error = _stable.two_sum(z, -v)
    top, top_error = _stable.two_sum(z_top, -v_top)

    def relative_to(reference, error):
        return jnp.where(shared, (d - reference) + (d_error - error), 0.0)

    # The means that are subtracted are constants, except for the last one.
    mean = jax.lax.stop_gradient(p.mean(relative_to(top, top_error)))
    reference, error = _stable.two_sum(top, mean)
    u = relative_to(reference, top_error + error)
    return jnp.where(shared, u - p.mean(u), 0.0)


def soft_target_divergence(
    student: Logits,
    teacher: Logits,
    temperature: Float[Array, ""],
    *,
    last_count: int = 1,
) -> Float[Array, "*batch"]:
    """Compute the loss of each example, by the formula of the module's docstring.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher.
        temperature: Temperature, or infinity.
        last_count: Number of equal classes that the last logit stands for.
    """
    return _divergence(last_count, student, teacher, temperature)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _divergence(
    last_count: int, student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Float[Array, "*batch"]:
    return _value_and_gradient(last_count, student, teacher, temperature)[0]


@functools.partial(_divergence.defjvp, symbolic_zeros=True)
def _divergence_jvp(last_count, primals, tangents):
    value, gradient = _value_and_gradient(last_count, *primals)
    return value, _value_tangent(gradient, last_count, primals, tangents)


def _value_tangent(gradient, last_count, primals, tangents):
    student_dot, teacher_dot, temperature_dot = tangents
    value_dot = jnp.zeros_like(gradient[..., 0])
    if not isinstance(student_dot, SymbolicZero):
        value_dot += jnp.sum(gradient * student_dot, axis=-1)
    if not isinstance(teacher_dot, SymbolicZero):
        value_dot += jnp.sum(
            _teacher_gradient(last_count, *primals) * teacher_dot, axis=-1
        )
    if not isinstance(temperature_dot, SymbolicZero):
        value_dot += _temperature_gradient(last_count, *primals) * temperature_dot
    return value_dot


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value_and_gradient(
    last_count: int, student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> tuple[Float[Array, "*batch"], Logits]:
    """Compute the loss and the student's gradient T (q - p), which share all sums."""
    q = _soften(student, temperature, last_count)
    p = _soften(teacher, temperature, last_count)
    scale = _finite(temperature)
    inverse = jnp.where(jnp.isinf(temperature), 0.0, 1.0 / temperature)
    # A masked class becomes very unlikely: all differences are finite.
    largest_number = jnp.finfo(student.dtype).max
    lowest = -largest_number * jnp.minimum(temperature, 1.0)
    d, error = _stable.two_sum(
        jnp.maximum(student, lowest), -jnp.maximum(teacher, lowest)
    )
    top, top_error = _stable.two_sum(_largest(student), -_largest(teacher))
    d = (d - top) + (error - top_error)
    # A class that the student masks and the teacher does not costs infinitely much. At
    # T = inf so does the converse: p and q are uniform over different classes.
    infinite = (d < 0.5 * lowest) | ((d > -0.5 * lowest) & jnp.isinf(temperature))

    bound = jnp.minimum(temperature, largest_number)
    # This sum need not be accurate; XLA computes its terms on the fly.
    mean = p.weights * jnp.clip(d, -bound, bound)
    mean = jnp.sum(mean, axis=-1, keepdims=True) / p.total
    log_ratio = jnp.log(q.total) - jnp.log(p.total)
    close = jnp.abs(log_ratio - mean * inverse) < _CLOSE
    c = jnp.where(close, mean, scale * log_ratio)
    # p_k e^w_k = factor * (weight of q)_k.
    offset, offset_error = _stable.scaled_difference(jnp.zeros_like(c), c, temperature)
    factor = jnp.exp(offset) * (1.0 + offset_error) / p.total
    p = p.weights * (1.0 / p.total)

    u = d - c
    w = u * inverse
    in_tail = (w < _LOW) | (w > _HIGH)
    w = jnp.where(in_tail, 0.0, w)
    phi = _stable.second_exp_remainder(w, _LOW, _HIGH)
    first_order = p * u
    # T p_k (e^w_k - 1), without its first-order term in S, and with it in T y.
    tail = scale * (factor * q.weights - p)
    terms = jnp.where(in_tail, scale * (tail - first_order), first_order * (u * phi))
    s = _sum(jnp.where(infinite, jnp.inf, terms))
    change = jnp.where(in_tail, tail, first_order * (1.0 + w * phi))
    scaled_y = _stable.accurate_sum(change)[..., None]
    y = scaled_y * inverse
    loss = s - scaled_y * (scaled_y * _stable.log1p_remainder(y, 2))
    loss = jnp.where(jnp.isinf(s), s, loss)  # the square may be infinite too
    # The components sum to zero, because y is the sum of the very same numbers. What is
    # subtracted may be less than half a unit in their last place: the rounding errors
    # of p u keep it from being lost.
    rest = jnp.where(in_tail, 0.0, _stable.product_error(p, u, first_order))
    gradient = (change + (rest - p * scaled_y)) * (1.0 / (1.0 + y))
    # The difference is rounded; NaN is let through.
    return jnp.maximum(loss, 0.0)[..., 0], gradient


@functools.partial(_value_and_gradient.defjvp, symbolic_zeros=True)
def _value_and_gradient_jvp(last_count, primals, tangents):
    student, teacher, temperature = primals
    student_dot, teacher_dot, temperature_dot = tangents
    value, gradient = _value_and_gradient(last_count, *primals)
    value_dot = _value_tangent(gradient, last_count, primals, tangents)
    gradient_dot = jnp.zeros_like(gradient)
    q = _soften(student, temperature, last_count)
    p = _soften(teacher, temperature, last_count)
    if not isinstance(student_dot, SymbolicZero):
        gradient_dot += q.covariance(student_dot)
    if not isinstance(teacher_dot, SymbolicZero):
        gradient_dot -= p.covariance(teacher_dot)
    if not isinstance(temperature_dot, SymbolicZero):
        spread = q.covariance(_shifted(student)) - p.covariance(_shifted(teacher))
        gradient_dot += (gradient - spread) / temperature * temperature_dot
    return (value, gradient), (value_dot, gradient_dot)


def _teacher_gradient(
    last_count: int, student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Logits:
    """Compute -p_k u_k."""
    p = _soften(teacher, temperature, last_count)
    return -p.probabilities * _centered(student, teacher, p)


def _shifted(logits: Logits) -> Logits:
    """Return logits relative to the largest; masked logits become zero."""
    return jnp.where(jnp.isneginf(logits), 0.0, logits - _largest(logits))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _temperature_gradient(
    last_count: int, student: Logits, teacher: Logits, temperature: Float[Array, ""]
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
    p = _soften(teacher, temperature, last_count)
    u = _centered(student, teacher, p)
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
    direct = _temperature_gradient_directly(last_count, student, teacher, temperature)
    return jnp.where(jnp.any(large, axis=-1), direct, stable)


@_temperature_gradient.defjvp
def _temperature_gradient_jvp(last_count, primals, tangents):
    directly = functools.partial(_temperature_gradient_directly, last_count)
    _, gradient_dot = jax.jvp(directly, primals, tangents)
    return _temperature_gradient(last_count, *primals), gradient_dot


def _temperature_gradient_directly(
    last_count: int, student: Logits, teacher: Logits, temperature: Float[Array, ""]
) -> Float[Array, "*batch"]:
    """Compute 2TK - sum_k (q_k - p_k) z_k + Cov_p(u, v) / T."""
    p = _soften(teacher, temperature, last_count)
    u = _centered(student, teacher, p)
    value, gradient = _value_and_gradient(last_count, student, teacher, temperature)
    total = 2.0 * value[..., None] - _sum(gradient * _shifted(student))
    # A class without mass must not affect the mean, however far its logit is away.
    total += p.mean(u * jnp.where(p.weights > 0.0, _shifted(teacher), 0.0))
    return (total / temperature)[..., 0]
