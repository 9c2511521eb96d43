"""What the losses of logits do with their arguments first."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.losses._inputs import common_arrays


class Logits(NamedTuple):
    """Converted logits and the classes that take part, None for all of them."""

    student: Float[Array, "*batch classes"]
    teacher: Float[Array, "*batch classes"]
    where: Bool[Array, "*batch classes"] | None

    def masked(self) -> tuple[Array, Array]:
        """Both logits with ``-inf`` for the classes that take no part.

        Rows without any class become zeros in both: equal logits, no gradient.
        """
        return exclude(self.student, self.where), exclude(self.teacher, self.where)

    def of_rows(self, loss: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """The loss, zero for rows without any class."""
        if self.where is None:
            return loss
        return jnp.where(jnp.any(self.where, axis=-1), loss, 0.0)


def prepare_logits(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    where: ArrayLike | None,
    stop_teacher_gradient: bool,
    *,
    rank: int | None = None,
) -> Logits:
    """Converts and checks; with a mask, what takes no part becomes zero.

    Args:
        student_logits: Of the loss.
        teacher_logits: Of the loss.
        where: Of the loss.
        stop_teacher_gradient: Of the loss.
        rank: The number of axes, where it is not free.

    Raises:
        TypeError: If the logits are not floating point or the mask is not boolean.
        ValueError: If the shapes do not fit together or have no classes.
    """
    student, teacher = common_arrays(
        student_logits=student_logits,
        teacher_logits=teacher_logits,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    _checks.check_same_shape(student_logits=student, teacher_logits=teacher)
    _check_classes(student, "student_logits and teacher_logits")
    if rank is not None and student.ndim != rank:
        raise InvalidInputError(
            "student_logits and teacher_logits must be [batch, classes], got shape "
            f"{student.shape}; flatten further leading axes with reshape"
        )
    mask = prepare_mask(where, student.shape)
    if mask is None:
        return Logits(student, teacher, None)
    # Replaced, not multiplied: NaN in a masked place must not get through.
    return Logits(jnp.where(mask, student, 0.0), jnp.where(mask, teacher, 0.0), mask)


def _check_classes(x: Array, names: str) -> None:
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InvalidInputError(
            f"{names} must have at least one class on their last axis, got shape "
            f"{x.shape}"
        )


def prepare_mask(
    where: ArrayLike | None, shape: tuple[int, ...]
) -> Bool[Array, "..."] | None:
    """The mask in the shape of the logits.

    Raises:
        TypeError: If it is not boolean.
        ValueError: If it does not broadcast to that shape.
    """
    if where is None:
        return None
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        raise TypeError(
            f"where must be boolean, got dtype {mask.dtype}; convert it with where > 0"
        )
    try:
        return jnp.broadcast_to(mask, shape)
    except ValueError:
        raise InvalidInputError(
            "where must have a shape that broadcasts to that of the logits, got "
            f"{mask.shape} and {shape}; a mask of rows is where=mask[..., None]"
        ) from None


def prepare_labels(
    labels: ArrayLike, logits: Float[Array, "*batch classes"]
) -> Bool[Array, "*batch classes"]:
    """Where a class is the row's label. A row with a label out of range has none.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If there is not one for every row.
    """
    y = jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {y.dtype}")
    if y.shape != logits.shape[:-1]:
        raise InvalidInputError(
            "labels must have the same shape as the logits without their last axis, "
            f"got {y.shape} and {logits.shape}"
        )
    # Compared on the fly: no one-hot array of floats is ever stored.
    classes = jax.lax.broadcasted_iota(y.dtype, logits.shape, logits.ndim - 1)
    return classes == y[..., None]


def exclude(
    logits: Float[Array, "*batch classes"],
    keep: Bool[Array, "*batch classes"] | None,
) -> Float[Array, "*batch classes"]:
    """Logits with ``-inf`` outside ``keep``; zeros in rows that keep nothing."""
    if keep is None:
        return logits
    empty = ~jnp.any(keep, axis=-1, keepdims=True)
    return jnp.where(keep, logits, jnp.where(empty, 0.0, -jnp.inf))


def log_softmax(
    logits: Float[Array, "*batch classes"], temperature: Float[Array, ""]
) -> Float[Array, "*batch classes"]:
    """Logarithms of softened predictions; ``-inf`` stays, at infinite T too."""
    finite = jnp.where(jnp.isneginf(logits), 0.0, logits)
    scaled = jnp.where(jnp.isneginf(logits), -jnp.inf, finite / temperature)
    return jax.nn.log_softmax(scaled)


def cross_entropy(
    log_p: Float[Array, "*batch classes"], log_q: Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """Minus the sum of p log q, with 0 log 0 = 0."""
    p = jnp.exp(log_p)
    return -jnp.sum(p * jnp.where(p == 0.0, 0.0, log_q), axis=-1)
