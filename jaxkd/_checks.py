"""Argument checks: they run before tracing and say what to do."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from jaxkd._errors import InvalidInputError, InvalidTypeError


def as_float_array(x: ArrayLike, name: str) -> Array:
    """Converts to a floating-point array of at least 32 bits; keeps float64.

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
    """Converts with :func:`as_float_array` and widens to the widest of the dtypes."""
    converted = [as_float_array(x, name) for name, x in arrays.items()]
    widest = max((x.dtype for x in converted), key=lambda dtype: jnp.finfo(dtype).bits)
    return tuple(x.astype(widest) for x in converted)


def check_same_shape(**arrays: Array) -> None:
    """Raises ``ValueError`` naming both shapes unless all arrays have the same."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.shape != reference.shape:
            raise InvalidInputError(
                f"{first} and {name} must have the same shape, "
                f"got {reference.shape} and {array.shape}",
                argument=name,
            )


def _concrete(value: Any) -> np.ndarray | None:
    """The value as NumPy, or None while it is being traced."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def check_positive(**scalars: ArrayLike) -> None:
    """Raises ``ValueError`` unless every concrete scalar is > 0; infinity is."""
    for name, value in scalars.items():
        concrete = _concrete(value)
        if concrete is not None and not np.all(concrete > 0):
            raise InvalidInputError(
                f"{name} must be positive, got {value}", argument=name
            )


def check_finite_positive(**scalars: ArrayLike) -> None:
    """Raises ``ValueError`` unless every concrete scalar is finite and > 0."""
    check_positive(**scalars)
    for name, value in scalars.items():
        concrete = _concrete(value)
        if concrete is not None and not np.all(np.isfinite(concrete)):
            raise InvalidInputError(
                f"{name} must be finite, got {value}", argument=name
            )


def check_at_least(minimum: int, **integers: Any) -> None:
    """Raises unless every value is an integer not below ``minimum``."""
    for name, value in integers.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise InvalidTypeError(
                f"{name} must be an integer, got {value!r}", argument=name
            )
        if value < minimum:
            raise InvalidInputError(
                f"{name} must be at least {minimum}, got {value}", argument=name
            )


def check_in_range(low: float, high: float, **scalars: Any) -> None:
    """Raises ``ValueError`` unless every value lies in ``[low, high]``."""
    for name, value in scalars.items():
        if math.isnan(value) or not low <= value <= high:
            raise InvalidInputError(
                f"{name} must lie in [{low:g}, {high:g}], got {value}", argument=name
            )
