"""Argument checks. Their error messages name the argument and its value."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from jaxkd._errors import InvalidInputError, InvalidTypeError


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


def check_positive(**scalars: ArrayLike) -> None:
    """Raise ``ValueError`` unless every concrete scalar is > 0; infinity passes."""
    for name, value in scalars.items():
        concrete = _concrete(value)
        if concrete is not None and not np.all(concrete > 0):
            raise InvalidInputError(
                f"{name} must be positive, got {value}", argument=name
            )


def check_finite_positive(**scalars: ArrayLike) -> None:
    """Raise ``ValueError`` unless every concrete scalar is finite and > 0."""
    check_positive(**scalars)
    for name, value in scalars.items():
        concrete = _concrete(value)
        if concrete is not None and not np.all(np.isfinite(concrete)):
            raise InvalidInputError(
                f"{name} must be finite, got {value}", argument=name
            )


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


def check_in_range(low: float, high: float, **scalars: Any) -> None:
    """Raise ``ValueError`` unless every value lies in ``[low, high]``."""
    for name, value in scalars.items():
        if math.isnan(value) or not low <= value <= high:
            raise InvalidInputError(
                f"{name} must lie in [{low:g}, {high:g}], got {value}", argument=name
            )
