"""Numerically stable primitives that losses and modules share.

All of them compute in the dtype they are given, under ``jit`` and ``vmap``, and have
derivatives of every order at their regular points, the removable singularities at
zero included.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkd import _checks

# Where a remainder leaves its power series for the closed form. At the switch the
# closed form loses less than a digit to cancellation, and the series has about 15 (exp)
# or 20 (log1p) terms in float32.
_EXP_SERIES_RADIUS = 2.0
_LOG1P_SERIES_RADIUS = 0.5
# Number of parts that a pairwise sum adds in one pass, a power of two.
_PARTS = 8


def l2_normalize(x: Float[Array, "..."], *, axis: int = -1) -> Float[Array, "..."]:
    r"""Scale every vector along ``axis`` to unit Euclidean length.

    Nothing is added to the norm, so the result does not depend on the scale of ``x``
    from the smallest to the largest normal number. A zero vector stays zero and gets
    a zero gradient, whatever the other vectors are.

    Args:
        x: Vectors to normalize.
        axis: The axis that holds a vector's components.

    Returns:
        :math:`x / \lVert x \rVert_2`, at least float32.

    Raises:
        TypeError: If ``x`` is not floating point.
    """
    x = _checks.as_float_array(x, "x")
    # Squares overflow long before the result does: divide by the largest component
    # first. The quotient does not depend on it, so its derivative may be left out.
    largest = jax.lax.stop_gradient(
        jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0.0)
    )
    # The guard is per vector and before the square root. A vector of subnormal
    # numbers counts as zero, because its gradient is too large for the dtype. XLA
    # may divide by multiplying with a reciprocal, which has to be normal too.
    tiny = jnp.finfo(x.dtype).tiny
    nonzero = ~(largest < tiny)  # NaN must not pass for zero
    x = jnp.where(nonzero, x / jnp.clip(largest, tiny, 1.0 / tiny), 0.0)
    squared_norm = jnp.sum(x * x, axis=axis, keepdims=True)
    return x / jnp.sqrt(jnp.where(nonzero, squared_norm, 1.0))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def exp_remainder(x: Float[Array, "..."], order: int) -> Float[Array, "..."]:
    r"""Compute exp without the head of its series, divided by the next power.

    .. math::
        \varphi_k(x) = \sum_{n \ge 0} \frac{x^n}{(n + k)!}, \qquad
        \varphi_1 = \frac{e^x - 1}{x}, \quad
        \varphi_2 = \frac{e^x - 1 - x}{x^2}, \qquad
        \varphi_k' = \varphi_k - k\, \varphi_{k+1}.

    Args:
        x: Real numbers.
        order: :math:`k \ge 1`.

    Returns:
        :math:`\varphi_k(x) > 0`, with a relative error of a few units in the last
        place for :math:`k \le 3`.
    """
    coefficient = lambda n: 1.0 / math.factorial(n + order)
    near = jnp.abs(x) < _EXP_SERIES_RADIUS
    series = _power_series(jnp.where(near, x, 0.0), coefficient, _EXP_SERIES_RADIUS)
    far = jnp.where(near, _EXP_SERIES_RADIUS, x)
    closed = jnp.expm1(far) / far
    for k in range(1, order):
        closed = (closed - 1.0 / math.factorial(k)) / far
    return jnp.where(near, series, closed)


@exp_remainder.defjvp
def _exp_remainder_jvp(order, primals, tangents):
    ((x,), (dx,)) = primals, tangents
    value = exp_remainder(x, order)
    return value, (value - order * exp_remainder(x, order + 1)) * dx


def second_exp_remainder(
    x: Float[Array, "..."], low: float, high: float
) -> Float[Array, "..."]:
    r"""Compute :math:`\varphi_2` of :func:`exp_remainder` between two small bounds.

    It has no other branch, and its power series about the middle of the interval is
    shorter than that about zero. It has no derivative of its own.

    Args:
        x: Real numbers between the bounds.
        low: The lower bound.
        high: The upper bound.

    Returns:
        :math:`(e^x - 1 - x)/x^2`, with a relative error of a few units in the last
        place.
    """
    middle = (low + high) / 2.0

    def coefficient(n):
        return math.fsum(
            math.comb(k, n) * middle ** (k - n) / math.factorial(k + 2)
            for k in range(n, n + 30)
        )

    return _power_series(x - middle, coefficient, (high - low) / 2.0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log1p_remainder(x: Float[Array, "..."], order: int) -> Float[Array, "..."]:
    r"""Compute the remainder of :math:`\log(1 + x)`, as :func:`exp_remainder` for exp.

    .. math::
        \lambda_k(x) = \sum_{n \ge 0} \frac{(-x)^n}{n + k}, \qquad
        \lambda_1 = \frac{\log(1 + x)}{x}, \quad
        \lambda_2 = \frac{x - \log(1 + x)}{x^2}, \qquad
        \lambda_k' = k\, \lambda_{k+1} - \frac{1}{1 + x}.

    Args:
        x: Real numbers above -1.
        order: :math:`k \ge 1`.

    Returns:
        :math:`\lambda_k(x) > 0`, with a relative error of a few units in the last
        place for :math:`k \le 2`.
    """
    coefficient = lambda n: (-1.0) ** n / (n + order)
    near = jnp.abs(x) < _LOG1P_SERIES_RADIUS
    series = _power_series(jnp.where(near, x, 0.0), coefficient, _LOG1P_SERIES_RADIUS)
    far = jnp.where(near, _LOG1P_SERIES_RADIUS, x)
    closed = jnp.log1p(far) / far
    for k in range(1, order):
        closed = (1.0 / k - closed) / far
    return jnp.where(near, series, closed)


@log1p_remainder.defjvp
def _log1p_remainder_jvp(order, primals, tangents):
    ((x,), (dx,)) = primals, tangents
    slope = order * log1p_remainder(x, order + 1) - 1.0 / (1.0 + x)
    return log1p_remainder(x, order), slope * dx


def _power_series(x, coefficient, radius):
    """Evaluate a series by Horner's rule, with enough terms for the dtype."""
    precision = coefficient(0) * float(jnp.finfo(x.dtype).eps) / 8.0
    n = 0
    while abs(coefficient(n)) * radius**n > precision:
        n += 1
    value = jnp.full_like(x, coefficient(n))
    for k in reversed(range(n)):
        value = value * x + coefficient(k)
    return value


@jax.custom_jvp
def accurate_sum(x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Sum over the last axis as accurately as with about twice the precision.

    XLA adds runs of terms one after the other: after a large term all the small ones
    are rounded alike, which costs a decimal place at a thousand terms.

    References:
        Rump, Ogita, Oishi, Accurate Floating-Point Summation I, 2008, Sec. 3.
    """
    # Adding and subtracting the bound rounds every term to a grid so coarse that the
    # rounded terms add up without error, in any order. The rest is small.
    bound = 2.0 * x.shape[-1] * jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    representable = bound < jnp.inf
    bound = jnp.where(representable, bound, 0.0)
    on_grid = (x + bound) - bound
    rest = jnp.where(representable, x - on_grid, 0.0)
    return jnp.sum(on_grid, axis=-1) + jnp.sum(rest, axis=-1)


@accurate_sum.defjvp
def _accurate_sum_jvp(primals, tangents):
    return accurate_sum(*primals), jnp.sum(*tangents, axis=-1)


@jax.custom_jvp
def pairwise_sum(x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Sum over the last axis by adding eighths of it, again and again.

    Each term takes part in about :math:`\\log_2 n` additions, so the relative error of
    a sum of non-negative terms is at most that many half units in the last place. XLA
    computes the eighths in one pass: this is faster than :func:`accurate_sum`, which
    remains accurate where terms cancel.

    References:
        Higham, Accuracy and Stability of Numerical Algorithms, 2002, Sec. 4.1 and 4.2.
    """
    rest = jnp.zeros(x.shape[:-1], x.dtype)
    while x.shape[-1] >= 2 * _PARTS:
        size = x.shape[-1] // _PARTS
        rest = rest + jnp.sum(x[..., _PARTS * size :], axis=-1)
        parts = [x[..., i * size : (i + 1) * size] for i in range(_PARTS)]
        while len(parts) > 1:
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
        (x,) = parts
    return rest + jnp.sum(x, axis=-1)


@pairwise_sum.defjvp
def _pairwise_sum_jvp(primals, tangents):
    return pairwise_sum(*primals), jnp.sum(*tangents, axis=-1)


def two_sum(
    a: Float[Array, "..."], b: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return the rounded sum of finite numbers and its rounding error, a constant.

    References:
        Knuth, The Art of Computer Programming, vol. 2, Sec. 4.2.2, Theorem B.
    """
    total = a + b
    b_rounded = total - a
    error = (a - (total - b_rounded)) + (b - b_rounded)
    return total, jax.lax.stop_gradient(error)


@jax.custom_jvp
def scaled_difference(
    x: Float[Array, "..."], reference: Float[Array, "..."], scale: Float[Array, ""]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Compute ``(x - reference) / scale`` to about twice the working precision.

    An exponential turns the absolute error of its argument into a relative error:
    rounding 100 to float32 costs up to 4e-6. The second returned number is the
    rounding error of the first, so that ``exp(high) * (1 + low)`` is accurate to the
    last places.

    Args:
        x: Numbers that may be ``-inf``.
        reference: Finite numbers, of a shape that broadcasts with ``x``.
        scale: A positive number or ``inf``.

    Returns:
        The quotient and its rounding error: ``-inf`` and 0 where ``x`` is ``-inf``
        (at an infinite scale too), 0 and 0 elsewhere if ``scale`` is infinite.
    """
    masked = jnp.isneginf(x)
    infinite = jnp.isinf(scale)
    total, total_error = two_sum(jnp.where(masked, reference, x), -reference)
    # The remainder makes good for the rounding of the reciprocal as well. All products
    # of halves are exact, with and without FMA.
    inverse = jnp.where(infinite, 0.0, 1.0 / scale)
    scale = jnp.where(infinite, 1.0, scale)
    high = total * inverse
    high_1, high_2 = _halves(high)
    scale_1, scale_2 = _halves(scale)
    remainder = total - high_1 * scale_1
    remainder = remainder - high_1 * scale_2
    remainder = remainder - high_2 * scale_1
    remainder = remainder - high_2 * scale_2
    low = (remainder + total_error) * inverse
    low = jnp.where(jnp.isfinite(low), low, 0.0)  # the quotient overflowed
    return jnp.where(masked, -jnp.inf, high), low


@scaled_difference.defjvp
def _scaled_difference_jvp(primals, tangents):
    _, _, scale = primals
    dx, dreference, dscale = tangents
    high, low = scaled_difference(*primals)
    finite = jnp.where(jnp.isneginf(high), 0.0, high)
    return (high, low), (
        (dx - dreference - finite * dscale) / scale,
        jnp.zeros_like(low),
    )


def product_error(
    a: Float[Array, "..."], b: Float[Array, "..."], product: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Compute the rounding error of a product of finite numbers, ``a * b - product``.

    References:
        Dekker, A Floating-Point Technique for Extending the Available Precision, 1971,
        Sec. 5.
    """
    (a_1, a_2), (b_1, b_2) = _halves(a), _halves(b)
    # All products of halves are exact, with and without FMA.
    error = a_1 * b_1 - product
    error = error + a_1 * b_2
    error = error + a_2 * b_1
    return error + a_2 * b_2


def _halves(x):
    """Split the significand in two halves, short enough for exact products."""
    # Clearing bits costs one instruction, jax.lax.reduce_precision many.
    integer = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
    low = 2 ** (jnp.finfo(x.dtype).nmant // 2 + 1) - 1
    mask = np.array(np.iinfo(integer).max - low, integer)
    bits = jax.lax.bitcast_convert_type(x, integer) & mask
    upper = jax.lax.bitcast_convert_type(bits, x.dtype)
    return upper, x - upper
