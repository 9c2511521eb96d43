"""Argument checks. Their error messages name the argument and its value."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from jaxkd._errors import InvalidInputError, InvalidTypeError

# JAX indexes with int32.
_LARGEST_COUNT = 2**31 - 1

# The largest width of a layer. Matrices of wider layers may have more entries than XLA
# can index, which ends the process.
_MOST_FEATURES = 2**16


def as_float_array(x: ArrayLike, name: str) -> Array:
    """Convert to a floating-point array of at least 32 bits; float64 stays float64.

    Raises:
        TypeError: If ``x`` is not floating point.
    """
    array = jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InvalidTypeError(
            f"{name} must be floating point, got dtype {array.dtype}; "
            f"convert it with {name}.astype(jnp.float32)",
            argument=name,
        )
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def common_float_arrays(**arrays: ArrayLike) -> tuple[Array, ...]:
    """Convert with :func:`as_float_array`, then to the widest of the dtypes."""
    converted = [as_float_array(x, name) for name, x in arrays.items()]
    widest = max((x.dtype for x in converted), key=lambda dtype: jnp.finfo(dtype).bits)
    return tuple(x.astype(widest) for x in converted)


def as_class_numbers(labels: Any, name: str = "labels") -> Array:
    """Convert class numbers to integers of at least 32 bits.

    Numbers of classes or rows may not fit into narrower integers, and would wrap
    around in comparisons.

    Raises:
        TypeError: If the labels are not integers.
    """
    return _as_integers(
        labels,
        name,
        "class numbers",
        f"convert one-hot labels with {name}.argmax(-1), and numbers of another dtype "
        f"with {name}.astype(int)",
    )


def as_row_numbers(rows: Any, name: str = "rows") -> Array:
    """Convert row numbers to integers of at least 32 bits.

    Raises:
        TypeError: If the rows are not integers.
    """
    remedy = f"convert a mask with jnp.flatnonzero({name})"
    return _as_integers(rows, name, "row numbers", remedy)


def _as_integers(given: Any, name: str, kind: str, remedy: str) -> Array:
    try:
        array = jnp.asarray(given)
    except (TypeError, ValueError):  # text, None, or lists of different lengths
        raise InvalidTypeError(
            f"{name} must be an array of {kind}, got {str(given)[:40]!r}",
            argument=name,
        ) from None
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise InvalidTypeError(
            f"{name} must be integers ({kind}), got dtype {array.dtype}; {remedy}",
            argument=name,
        )
    narrow = jnp.iinfo(array.dtype).bits < 32
    return array.astype(jnp.int32) if narrow else array


def check_not_negative(**integers: ArrayLike) -> None:
    """Raise ``ValueError`` if a concrete array contains a negative number."""
    for name, value in integers.items():
        concrete = _concrete(value)
        if concrete is not None and concrete.min(initial=0) < 0:
            raise InvalidInputError(
                f"{name} must not be negative, got {concrete.min()}", argument=name
            )


def check_numbers_below(count: int, kind: str, **integers: ArrayLike) -> None:
    """Raise ``ValueError`` unless concrete numbers lie in ``[0, count)``.

    Args:
        count: The number of classes or rows.
        kind: What is counted, for the message: ``"classes"``.
        **integers: Arrays by name.
    """
    for name, value in integers.items():
        concrete = _concrete(value)
        if concrete is None or concrete.size == 0:
            continue
        low, high = concrete.min(), concrete.max()
        if low < 0 or high >= count:
            raise InvalidInputError(
                f"{name} must lie in [0, {count - 1}], because there are {count} "
                f"{kind}, got {low} to {high}",
                argument=name,
            )


def check_same_shape(**arrays: Array) -> None:
    """Raise ``ValueError`` with both shapes unless all arrays have the same shape."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.shape != reference.shape:
            raise InvalidInputError(
                f"{first} and {name} must have the same shape, "
                f"got {reference.shape} and {array.shape}",
                argument=name,
            )


def _concrete(value: Any) -> np.ndarray | None:
    """Return the value as a NumPy array, or None if it is traced."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def _number(name: str, value: Any) -> float | None:
    """Return a scalar as a float, or None if it is traced.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is an array of several numbers.
    """
    kinds = numbers.Real | np.ndarray | np.generic | Array
    if isinstance(value, bool | np.bool_) or not isinstance(value, kinds):
        raise InvalidTypeError(f"{name} must be a number, got {value!r}", argument=name)
    if np.shape(value):
        raise InvalidInputError(
            f"{name} must be one number, got an array of shape {np.shape(value)}",
            argument=name,
        )
    if isinstance(value, Tracer):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):  # an array of text or of complex numbers
        raise InvalidTypeError(
            f"{name} must be a number, got {value!r}", argument=name
        ) from None


def _float_limits() -> Any:
    """Return the limits of JAX's default floating-point dtype."""
    return jnp.finfo(jax.dtypes.canonicalize_dtype(float))


def _check_not_underflowing(name: str, value: Any, number: float) -> None:
    """Raise if JAX would round a number that is not zero to zero."""
    limits = _float_limits()
    if 0 < abs(number) < float(limits.tiny):
        raise InvalidInputError(
            f"{name} is {value}, which is too small for {limits.dtype}; use at least "
            f"{limits.tiny:.2g}",
            argument=name,
        )


def _check_finite(name: str, value: Any, number: float) -> None:
    limits = _float_limits()
    if not abs(number) <= float(limits.max):
        raise InvalidInputError(
            f"{name} must be finite in {limits.dtype}, got {value}", argument=name
        )


def check_positive(**scalars: Any) -> None:
    """Raise unless every concrete scalar is a number > 0; infinity passes.

    A number that JAX rounds to zero does not pass.
    """
    for name, value in scalars.items():
        number = _number(name, value)
        if number is None:
            continue
        if not number > 0:
            raise InvalidInputError(
                f"{name} must be positive, got {value}", argument=name
            )
        _check_not_underflowing(name, value, number)


def check_finite_positive(**scalars: Any) -> None:
    """Raise unless every concrete scalar is a finite number > 0."""
    check_positive(**scalars)
    for name, value in scalars.items():
        if (number := _number(name, value)) is not None:
            _check_finite(name, value, number)


def check_finite_not_negative(**scalars: Any) -> None:
    """Raise unless every concrete scalar is a finite number of at least 0."""
    for name, value in scalars.items():
        if (number := _number(name, value)) is None:
            continue
        if number < 0:
            raise InvalidInputError(
                f"{name} must be finite and not negative, got {value}", argument=name
            )
        _check_not_underflowing(name, value, number)
        _check_finite(name, value, number)


def check_temperature(**temperatures: Any) -> None:
    """Raise unless every concrete temperature is > 0 and not too small; inf passes.

    With a temperature of the dtype's squared epsilon, all predictions are one-hot.
    Much below it, the squares of scaled logits overflow.
    """
    for name, value in temperatures.items():
        number, limits = _number(name, value), _float_limits()
        least = float(limits.eps) ** 2
        if number is not None and 0 < number < least:
            raise InvalidInputError(
                f"{name} is {value}, which is too small for {limits.dtype}; use at "
                f"least {least:.2g}, at which every prediction is one-hot",
                argument=name,
            )
    check_positive(**temperatures)


def check_finite_temperature(**temperatures: Any) -> None:
    """Raise unless every concrete temperature is > 0 and finite, and so is its square.

    The limits are those of :func:`check_temperature` and their reciprocals.
    """
    check_temperature(**temperatures)
    check_finite_positive(**temperatures)
    for name, value in temperatures.items():
        number, limits = _number(name, value), _float_limits()
        most = float(limits.eps) ** -2
        if number is not None and number > most:
            raise InvalidInputError(
                f"{name} is {value}, which is too large for {limits.dtype}; use at "
                f"most {most:.2g}, at which every prediction is uniform",
                argument=name,
            )


def check_temperatures(temperatures: Any) -> None:
    """Raise unless the argument is a sequence of finite numbers > 0, at least one."""
    if isinstance(temperatures, str) or not hasattr(temperatures, "__len__"):
        raise InvalidTypeError(
            "temperatures must be a sequence of numbers such as (2.0, 4.0), got "
            f"{temperatures!r}",
            argument="temperatures",
        )
    if len(temperatures) == 0:
        raise InvalidInputError(
            "temperatures must hold at least one temperature, got none",
            argument="temperatures",
        )
    for temperature in temperatures:
        check_finite_temperature(temperatures=temperature)


def check_count(most: int, **integers: Any) -> None:
    """Raise unless every value is an integer from 1 to ``most``."""
    check_at_least(1, **integers)
    for name, value in integers.items():
        if value > most:
            raise InvalidInputError(
                f"{name} must be at most {most}, got {value}", argument=name
            )


def check_width(**widths: Any) -> None:
    """Raise unless every width of a layer is an integer from 1 to 65,536."""
    check_count(_MOST_FEATURES, **widths)


def check_at_least(minimum: int, **integers: Any) -> None:
    """Raise unless every value is an integer of at least ``minimum``."""
    for name, value in integers.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise InvalidTypeError(
                f"{name} must be an integer, got {value!r}", argument=name
            )
        if value < minimum:
            raise InvalidInputError(
                f"{name} must be at least {minimum}, got {value}", argument=name
            )
        if value > _LARGEST_COUNT:
            raise InvalidInputError(
                f"{name} must be at most {_LARGEST_COUNT}, got {value}", argument=name
            )


def check_seed(trials: int = 1, **seeds: Any) -> None:
    """Raise unless the seeds, and those of all trials, are integers that JAX can hold.

    ``jax.random.key`` drops the higher bits of a larger seed, so that two seeds could
    give the same run.

    Args:
        trials: Number of students; student ``i`` uses the seed plus ``i``.
        **seeds: Seeds by name.
    """
    limits = jnp.iinfo(jax.dtypes.canonicalize_dtype(int))
    for name, seed in seeds.items():
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise InvalidTypeError(
                f"{name} must be an integer, got {seed!r}", argument=name
            )
        if not limits.min <= seed <= limits.max:
            raise InvalidInputError(
                f"{name} is {seed}, but a seed must be an integer from {limits.min} to "
                f"{limits.max}",
                argument=name,
            )
        last = int(seed) + trials - 1
        if last > limits.max:
            raise InvalidInputError(
                f"{name} is {seed}, but with {trials} trials the last seed would be "
                f"{last}, larger than {limits.max}",
                argument=name,
            )


def check_in_range(low: float, high: float, **scalars: Any) -> None:
    """Raise unless every concrete value is a number in ``[low, high]``."""
    for name, value in scalars.items():
        number = _number(name, value)
        if number is not None and not low <= number <= high:
            raise InvalidInputError(
                f"{name} must lie in [{low:g}, {high:g}], got {value}", argument=name
            )


def check_fraction(**fractions: float) -> None:
    """Raise unless every number lies between 0 and 1, both excluded."""
    for name, value in fractions.items():
        if not 0 < value < 1:  # also false for NaN
            raise InvalidInputError(
                f"{name} must lie between 0 and 1, both excluded, such as 0.1, got "
                f"{value:g}",
                argument=name,
            )
