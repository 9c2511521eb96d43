"""Check and count the class numbers of a batch and of the rows of a bank."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int

from jaxkd import _checks
from jaxkd._errors import InvalidInputError


def class_numbers(num_classes: int, **labels: ArrayLike) -> tuple[Array, ...]:
    """Convert labels to int32, and check that they are numbers of the classes."""
    _checks.check_at_least(1, num_classes=num_classes)
    numbers = {name: checked_labels(name, y) for name, y in labels.items()}
    _checks.check_numbers_below(num_classes, "classes", **numbers)
    return tuple(y.astype(jnp.int32) for y in numbers.values())


def checked_labels(name: str, labels: ArrayLike) -> Array:
    """Convert labels, and check that there is one class number per row."""
    y = _checks.as_class_numbers(labels, name)
    if y.ndim != 1:
        raise InvalidInputError(
            f"{name} must have one class number per row, got shape {y.shape}; convert "
            f"one-hot labels with {name}.argmax(-1)",
            argument=name,
        )
    return y


def class_sizes(row_labels: Array, num_classes: int) -> Int[Array, " classes"]:
    """Count the rows of each class."""
    return jnp.bincount(row_labels, length=num_classes).astype(jnp.int32)
