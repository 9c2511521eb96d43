"""What every loss does with its arguments first."""

import jax
from jaxtyping import Array, ArrayLike

from jaxkd import _checks
from jaxkd._errors import InvalidInputError


def common_arrays(*, stop_teacher_gradient: bool, **arrays: ArrayLike) -> list[Array]:
    """Converts to one dtype of at least float32; the teacher's become constants.

    Args:
        stop_teacher_gradient: Whether arguments whose names begin with ``teacher`` are
            constants for the gradient.
        **arrays: The loss's arguments, by the names that errors give them.

    Raises:
        TypeError: If one is not floating point.
    """
    converted = _checks.common_float_arrays(**arrays)
    return [
        jax.lax.stop_gradient(x)
        if stop_teacher_gradient and name.startswith("teacher")
        else x
        for name, x in zip(arrays, converted, strict=True)
    ]


def check_rank(rank: int, axes: str, **arrays: Array) -> None:
    """Raises ``ValueError`` unless every array has that many axes.

    Args:
        rank: The number of axes.
        axes: What they are, for the message: ``"[batch, height, width, channels]"``.
        **arrays: The arrays, by name.
    """
    for name, x in arrays.items():
        if x.ndim != rank:
            raise InvalidInputError(f"{name} must be {axes}, got shape {x.shape}")
        if 0 in x.shape:
            raise InvalidInputError(f"{name} must not be empty, got shape {x.shape}")


def check_same_batch(**arrays: Array) -> None:
    """Raises ``ValueError`` naming both shapes unless all have as many examples."""
    (first, reference), *others = arrays.items()
    for name, x in others:
        if x.shape[0] != reference.shape[0]:
            raise InvalidInputError(
                f"{first} and {name} must have the same number of examples, "
                f"got shapes {reference.shape} and {x.shape}"
            )
