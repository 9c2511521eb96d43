r"""Temperatures at which distillation equals logits matching, for given logits.

At infinite temperature, the soft-target loss of student logits :math:`z` and teacher
logits :math:`v` is :math:`L_\infty = \frac12 \operatorname{var}(z - v)`: logits
matching without the gap of the means (theorems T3 to T5).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError

_PER_DECADE, _DECADES = 8, 6  # temperatures that are tried first
_HALVINGS = 12  # of the interval between two of them: 5 digits

Logits = Float[ArrayLike, "images classes"]


class Bounds(NamedTuple):
    """Smallest and largest ratio of the loss to its limit."""

    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class HighTemperatures(NamedTuple):
    r"""Temperatures from which on the loss is within a tolerance of its limit.

    Attributes:
        logit_range: Range :math:`R` of each image's logits, the larger one of student
            and teacher.
        limit: Loss :math:`\frac12 \operatorname{var}(z - v)` of each image at infinite
            temperature.
        guaranteed: Temperature of each image by :func:`guaranteed_temperature`.
        measured: Temperature of each image according to its logits; 0 if the logits
            differ by a constant. A percentile of these numbers is a temperature that is
            high enough for that share of the images.
        measured_mean: Temperature of the mean loss of all images.
        first_order: Estimate of ``measured_mean`` from the term :math:`c/T` of the
            expansion in :math:`1/T` (theorem T5).
    """

    logit_range: Float[np.ndarray, " images"]
    limit: Float[np.ndarray, " images"]
    guaranteed: Float[np.ndarray, " images"]
    measured: Float[np.ndarray, " images"]
    measured_mean: float
    first_order: float

    def mean_ratio(self, ratios: Float[np.ndarray, " images"]) -> float:
        """Return the mean loss over its limit, in which large losses count for more.

        Args:
            ratios: Result of :func:`limit_ratios` for the same logits.
        """
        limit = self.limit
        return float(np.average(ratios, weights=limit)) if limit.any() else 1.0


def limit_bounds(
    logit_range: Real[ArrayLike, "..."],
    temperature: float,
    *,
    num_classes: int | None = None,
) -> Bounds:
    r"""Bound the ratio of the distillation loss to its limit at infinite temperature.

    With the larger range :math:`R` of both logits, :math:`r = R/T` and :math:`C`
    classes,

    .. math::
        \frac{C}{1 + (C-1) e^{r}} \le \frac{L_T}{\frac12 \operatorname{var}(z - v)}
        \le \frac{C}{1 + (C-1) e^{-r}}.

    Without the number of classes, the bounds are :math:`e^{-r}` and :math:`e^{r}`.

    Args:
        logit_range: Largest minus smallest logit of an image, the larger one of student
            and teacher.
        temperature: Temperature :math:`T > 0`; ``inf`` is allowed.
        num_classes: Number of classes, for the sharper form.

    Returns:
        The lower and the upper bound, of the shape of ``logit_range``.

    Raises:
        InvalidInputError: If the range is negative, the temperature is not positive, or
            there are fewer than two classes.

    Example:
        >>> from jaxkd import reports
        >>> print([round(float(x), 3) for x in reports.limit_bounds(20.0, 100.0)])
        [0.819, 1.221]

    References:
        Theorem T3; derivation ours.
    """
    _checks.check_not_negative(logit_range=logit_range)
    _checks.check_positive(temperature=temperature)
    if num_classes is not None:
        _checks.check_at_least(2, num_classes=num_classes)
    r = np.asarray(logit_range, np.float64) / temperature
    with np.errstate(over="ignore"):
        exponentials = np.exp(r), np.exp(-r)
    if num_classes is None:
        high, low = exponentials
    else:
        low, high = (num_classes / (1 + (num_classes - 1) * x) for x in exponentials)
    return Bounds(np.asarray(low), np.asarray(high))


def guaranteed_temperature(
    logit_range: Real[ArrayLike, "..."], *, num_classes: int, tolerance: float = 0.01
) -> Float[np.ndarray, "..."]:
    r"""Compute the temperature from which on the loss must be close to its limit.

    This inverts the sharper bounds of :func:`limit_bounds`. The upper one decides:

    .. math::
        T = \frac{R}{-\log\left(1 - \frac{C}{C-1} \frac{\varepsilon}{1 + \varepsilon}
        \right)} \approx \frac{C-1}{C} \cdot \frac{R}{\varepsilon}.

    Args:
        logit_range: Largest minus smallest logit of an image, the larger one of student
            and teacher.
        num_classes: Number of classes :math:`C`.
        tolerance: Largest relative difference :math:`\varepsilon` from the limit.

    Returns:
        The temperature for each range, 0 for a range of 0. From there on, every loss of
        logits with this range is within the tolerance.

    Raises:
        InvalidInputError: If the range is negative, there are fewer than two classes,
            or the tolerance is not between 0 and 1.

    Example:
        >>> from jaxkd import reports
        >>> print(reports.guaranteed_temperature(20.0, num_classes=10).round())
        1808.0

    References:
        Theorem T3; derivation ours.
    """
    _checks.check_not_negative(logit_range=logit_range)
    _checks.check_at_least(2, num_classes=num_classes)
    _checks.check_fraction(tolerance=tolerance)
    share = num_classes / (num_classes - 1) * tolerance
    # With two classes both bounds are equally far in r; with more, the upper is nearer.
    reach = -np.log1p(-share / (1 + tolerance))
    return np.asarray(np.asarray(logit_range, np.float64) / reach)


def limit_ratios(
    student_logits: Logits, teacher_logits: Logits, temperature: float
) -> Float[np.ndarray, " images"]:
    r"""Compute the ratio of the distillation loss to its limit for each image.

    .. math::
        \frac{T^2 \operatorname{KL}(\operatorname{softmax}(v/T) \,\|\,
        \operatorname{softmax}(z/T))}{\frac12 \operatorname{var}(z - v)}

    Args:
        student_logits: Finite logits :math:`z`.
        teacher_logits: Finite logits :math:`v`.
        temperature: Temperature :math:`T > 0`; ``inf`` is allowed.

    Returns:
        The ratios; 1 for an image whose logits differ by a constant.

    Raises:
        InvalidInputError: If the logits are not finite, their shapes differ, they have
            fewer than two classes, or the temperature is not positive.
        InvalidTypeError: If the logits are not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import reports
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
        >>> reports.limit_ratios(student, teacher, 1.0).round(3).tolist()
        [0.924]
    """
    student, teacher = _checked(student_logits, teacher_logits)
    _checks.check_temperature(temperature=temperature)
    temperatures = jnp.full(len(student), temperature, student.dtype)
    return np.asarray(_ratios(student, teacher, temperatures), np.float64)


def high_enough_temperatures(
    student_logits: Logits, teacher_logits: Logits, *, tolerance: float = 0.01
) -> HighTemperatures:
    r"""Find the temperatures from which on distillation equals logits matching.

    The loss :math:`L_T` of an image equals its limit :math:`\frac12
    \operatorname{var}(z - v)` if they differ by at most the share ``tolerance`` at this
    and at every higher temperature. The measured temperatures are found by a search
    from the guaranteed one downwards, eight temperatures per decade, and by bisection.

    Args:
        student_logits: Finite logits :math:`z`.
        teacher_logits: Finite logits :math:`v`.
        tolerance: Largest relative difference from the limit.

    Returns:
        The guaranteed, measured and estimated temperatures.

    Raises:
        InvalidInputError: If the logits are not finite, their shapes differ, they have
            fewer than two classes, or the tolerance is not between 0 and 1.
        InvalidTypeError: If the logits are not floating point.

    Example:
        >>> import numpy as np
        >>> from jaxkd import reports
        >>> student, teacher = np.random.default_rng(0).normal(0, 3, (2, 100, 10))
        >>> found = reports.high_enough_temperatures(student, teacher)
        >>> bool((found.measured <= found.guaranteed).all())
        True

    References:
        Theorems T3 and T5; derivation ours.
    """
    student, teacher = _checked(student_logits, teacher_logits)
    logit_range = np.asarray(
        jnp.maximum(*(jnp.max(x, -1) - jnp.min(x, -1) for x in (student, teacher))),
        np.float64,
    )
    guaranteed = guaranteed_temperature(
        logit_range, num_classes=student.shape[-1], tolerance=tolerance
    )
    limit = np.asarray(_loss(student, teacher, jnp.inf), np.float64)

    def of_images(temperatures):
        given = jnp.asarray(np.where(limit > 0, temperatures, 1.0), student.dtype)
        return np.abs(np.asarray(_ratios(student, teacher, given), np.float64) - 1)

    def of_mean(temperatures):
        loss = _loss(student, teacher, jnp.asarray(temperatures[0], student.dtype))
        return np.abs(np.asarray(loss, np.float64).sum(keepdims=True) / limit.sum() - 1)

    measured, mean, first_order = np.zeros_like(guaranteed), 0.0, 0.0
    if limit.any():
        measured = _lowest_within(of_images, guaranteed, tolerance)
        highest = guaranteed.max(keepdims=True)
        mean = float(_lowest_within(of_mean, highest, tolerance)[0])
        slope = np.asarray(_first_order(student, teacher), np.float64).sum()
        first_order = float(abs(slope) / limit.sum() / tolerance)
    measured = np.where(limit > 0, measured, 0.0)
    return HighTemperatures(logit_range, limit, guaranteed, measured, mean, first_order)


def _lowest_within(
    deviation: Callable[[np.ndarray], np.ndarray], start: np.ndarray, tolerance: float
) -> np.ndarray:
    """Return where the deviation exceeds the tolerance for the first time below start.

    An entry whose deviation never exceeds it gets the lowest temperature tried.
    """
    low = high = start
    found = np.zeros(start.shape, bool)
    for number in range(1, _PER_DECADE * _DECADES + 1):
        tried = start * 10.0 ** (-number / _PER_DECADE)
        outside = deviation(tried) > tolerance
        low = np.where(found, low, tried)
        high = np.where(found | outside, high, tried)
        found = found | outside
        if found.all():
            break
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        outside = deviation(middle) > tolerance
        low = np.where(outside, middle, low)
        high = np.where(outside, high, middle)
    return high


@jax.jit
def _loss(
    student: Float[Array, "images classes"],
    teacher: Float[Array, "images classes"],
    temperature: Float[ArrayLike, ""],
) -> Float[Array, " images"]:
    return losses.soft_target_kl(student, teacher, temperature=temperature)


@jax.jit
def _ratios(
    student: Float[Array, "images classes"],
    teacher: Float[Array, "images classes"],
    temperatures: Float[Array, " images"],
) -> Float[Array, " images"]:
    limit = losses.soft_target_kl(student, teacher, temperature=jnp.inf)
    loss = jax.vmap(lambda z, v, t: losses.soft_target_kl(z, v, temperature=t))(
        student, teacher, temperatures
    )
    differs: Bool[Array, " images"] = limit > 0
    return jnp.where(differs, loss / jnp.where(differs, limit, 1.0), 1.0)


@jax.jit
def _first_order(
    student: Float[Array, "images classes"], teacher: Float[Array, "images classes"]
) -> Float[Array, " images"]:
    """Compute the coefficient of 1/T in the loss: k(v,d,d)/2 + k(d,d,d)/6 (T5)."""
    difference = student - teacher
    v, d = (x - jnp.mean(x, -1, keepdims=True) for x in (teacher, difference))
    return jnp.mean(d**2 * (v / 2 + d / 6), axis=-1)


def _checked(student_logits: ArrayLike, teacher_logits: ArrayLike) -> tuple[Array, ...]:
    """Return both logits in their common dtype."""
    student, teacher = _checks.common_float_arrays(
        student_logits=student_logits, teacher_logits=teacher_logits
    )
    _checks.check_same_shape(student_logits=student, teacher_logits=teacher)
    for name, logits in (("student_logits", student), ("teacher_logits", teacher)):
        if len(logits) == 0 or logits.shape[-1] < 2:
            raise InvalidInputError(
                f"{name} must have at least one image and two classes, got the shape "
                f"{logits.shape}",
                argument=name,
            )
        if not bool(jnp.isfinite(logits).all()):
            raise InvalidInputError(
                f"{name} must be finite. Leave masked classes out", argument=name
            )
    return student, teacher
