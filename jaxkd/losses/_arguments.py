"""Validate and convert the arguments of losses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError


def common_arrays(*, stop_teacher_gradient: bool, **arrays: ArrayLike) -> list[Array]:
    """Convert arguments to one dtype of at least float32; stop teacher gradients.

    Args:
        stop_teacher_gradient: Whether to treat arguments whose names begin with
            ``teacher`` as constants.
        **arrays: The arguments of the loss, by the names to use in errors.

    Raises:
        TypeError: If an argument is not floating point.
    """
    converted = _checks.common_float_arrays(**arrays)
    return [
        jax.lax.stop_gradient(x)
        if stop_teacher_gradient and name.startswith("teacher")
        else x
        for name, x in zip(arrays, converted, strict=True)
    ]


def check_rank(rank: int, axes: str, **arrays: Array) -> None:
    """Raise ``ValueError`` unless every array has this number of axes.

    Args:
        rank: The number of axes.
        axes: The axes, for the message: ``"[batch, height, width, channels]"``.
        **arrays: The arrays by name.
    """
    for name, x in arrays.items():
        if x.ndim != rank:
            raise InvalidInputError(
                f"{name} must be {axes}, got shape {x.shape}", argument=name
            )
        if 0 in x.shape:
            raise InvalidInputError(
                f"{name} must not be empty, got shape {x.shape}", argument=name
            )


def check_same_batch(**arrays: Array) -> None:
    """Raise ``ValueError`` unless all arrays have the same number of examples."""
    (first, reference), *others = arrays.items()
    for name, x in others:
        if x.shape[0] != reference.shape[0]:
            raise InvalidInputError(
                f"{first} and {name} must have the same number of examples, "
                f"got shapes {reference.shape} and {x.shape}",
                argument=name,
            )


def check_feature_maps(**maps: Array) -> None:
    """Raise ``ValueError`` unless all arrays are feature maps of the same examples."""
    for name, x in maps.items():
        if x.ndim < 3 or 0 in x.shape[-3:]:
            raise InvalidInputError(
                f"{name} must be feature maps [*batch, height, width, channels], "
                f"got shape {x.shape}",
                argument=name,
            )
    (first, reference), *others = maps.items()
    for name, x in others:
        if x.shape[:-3] != reference.shape[:-3]:
            raise InvalidInputError(
                f"{first} and {name} must have the same number of examples, "
                f"got shapes {reference.shape} and {x.shape}",
                argument=name,
            )


def stage_pairs(*, stop_teacher_gradient: bool, **maps: ArrayLike) -> list[Array]:
    """Convert and check two feature maps of the student and two of the teacher.

    Args:
        stop_teacher_gradient: Whether to treat the teacher's maps as constants.
        **maps: ``student_low``, ``student_high``, ``teacher_low``, ``teacher_high``.

    Raises:
        TypeError: If an argument is not floating point.
        ValueError: If an array is not a batch of feature maps, or if the numbers of
            examples or of the two networks' channels differ.
    """
    arrays = common_arrays(stop_teacher_gradient=stop_teacher_gradient, **maps)
    by_name = dict(zip(maps, arrays, strict=True))
    check_rank(4, "[batch, height, width, channels]", **by_name)
    check_same_batch(**by_name)
    for stage in ("low", "high"):
        student, teacher = by_name[f"student_{stage}"], by_name[f"teacher_{stage}"]
        if student.shape[-1] != teacher.shape[-1]:
            raise InvalidInputError(
                f"student_{stage} and teacher_{stage} must have the same number of "
                f"channels, got {student.shape[-1]} and {teacher.shape[-1]} "
                f"(shapes {student.shape} and {teacher.shape})",
                argument=f"student_{stage}",
            )
    return arrays


def embedding_pair(
    student_embeddings: ArrayLike,
    teacher_embeddings: ArrayLike,
    stop_teacher_gradient: bool,
) -> list[Array]:
    """Convert both embeddings and check that they are matrices of as many rows."""
    student, teacher = common_arrays(
        student_embeddings=student_embeddings,
        teacher_embeddings=teacher_embeddings,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    named = {"student_embeddings": student, "teacher_embeddings": teacher}
    check_rank(2, "[batch, features]", **named)
    check_same_batch(**named)
    return [student, teacher]


class Logits(NamedTuple):
    """Converted logits and the mask of participating classes, or None for all."""

    student: Float[Array, "*batch classes"]
    teacher: Float[Array, "*batch classes"]
    where: Bool[Array, "*batch classes"] | None

    def masked(self) -> tuple[Array, Array]:
        """Return both logits with ``-inf`` for the masked classes.

        Rows without any class become zeros in both: equal logits without a gradient.
        """
        return exclude(self.student, self.where), exclude(self.teacher, self.where)

    def of_rows(self, loss: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """Return the loss, with zero for rows without any class."""
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
    """Convert and check logits; masked logits become zero.

    Args:
        student_logits: Logits of the student.
        teacher_logits: Logits of the teacher.
        where: Mask of participating classes, or None.
        stop_teacher_gradient: Whether to treat the teacher as a constant.
        rank: The required number of axes, or None for any.

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
            f"{student.shape}; flatten further leading axes with reshape",
            argument="student_logits",
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
            f"{x.shape}",
            argument="student_logits",
        )


def prepare_mask(
    where: ArrayLike | None, shape: tuple[int, ...]
) -> Bool[Array, "..."] | None:
    """Broadcast the mask to the shape of the logits.

    Raises:
        TypeError: If the mask is not boolean.
        ValueError: If the mask does not broadcast to that shape, or is ambiguous.
    """
    if where is None:
        return None
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        raise InvalidTypeError(
            f"where must be boolean, got dtype {mask.dtype}; convert it with where > 0",
            argument="where",
        )
    return broadcast_by_class(mask, shape, "where", "the logits")


def broadcast_by_class(
    x: Array, shape: tuple[int, ...], name: str, target: str
) -> Array:
    """Broadcast an array to a shape, aligned at the last axes.

    If there are as many rows as classes, an array of one value per row would broadcast
    as if it had one value per class. Such an ambiguous array is refused.

    Args:
        x: The array.
        shape: The shape to broadcast to: rows, and the axis of classes or negatives.
        name: Name of the array in errors.
        target: Name of the arrays that have the shape, for errors.

    Raises:
        ValueError: If the shapes do not fit, or if ``x`` is ambiguous.
    """
    missing = len(shape) - x.ndim
    try:
        broadcast = jnp.broadcast_to(x, shape)
    except ValueError:
        raise InvalidInputError(
            f"{name} must have a shape that broadcasts to that of {target}, got "
            f"{x.shape} and {shape}; one value per row is {name}[..., None]",
            argument=name,
        ) from None
    if missing > 0 and x.size > 1 and x.shape == shape[: x.ndim]:
        raise InvalidInputError(
            f"{name} has the shape {x.shape}, which fits both the first and the last "
            f"axes of {target}, {shape}; write {name}[...{', None' * missing}] for one "
            f"value per row, or {name}[{'None, ' * missing}...] for one per class",
            argument=name,
        )
    return broadcast


def prepare_labels(
    labels: ArrayLike, logits: Float[Array, "*batch classes"]
) -> Bool[Array, "*batch classes"]:
    """Return the mask of each row's labeled class, empty for labels out of range.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If there is not one label for every row.
    """
    y = _checks.as_class_numbers(labels)
    if y.shape != logits.shape[:-1]:
        raise InvalidInputError(
            "labels must have the shape of the logits without their last axis, "
            f"got {y.shape} and {logits.shape}{_remedy_for_labels(y, logits)}",
            argument="labels",
        )
    # Compared on the fly: no one-hot array of floats is ever stored.
    classes = jax.lax.broadcasted_iota(y.dtype, logits.shape, logits.ndim - 1)
    return classes == y[..., None]


def _remedy_for_labels(labels: Array, logits: Array) -> str:
    if labels.shape == logits.shape:
        return "; convert one-hot labels with labels.argmax(-1)"
    if labels.shape == (*logits.shape[:-1], 1):
        return "; drop the last axis with labels[..., 0]"
    return ""


def exclude(
    logits: Float[Array, "*batch classes"],
    keep: Bool[Array, "*batch classes"] | None,
) -> Float[Array, "*batch classes"]:
    """Set logits outside ``keep`` to ``-inf``, and rows that keep nothing to zero."""
    if keep is None:
        return logits
    empty = ~jnp.any(keep, axis=-1, keepdims=True)
    return jnp.where(keep, logits, jnp.where(empty, 0.0, -jnp.inf))


def log_softmax(
    logits: Float[Array, "*batch classes"], temperature: Float[Array, ""]
) -> Float[Array, "*batch classes"]:
    """Compute the log of softened predictions; ``-inf`` stays, also at infinite T."""
    finite = jnp.where(jnp.isneginf(logits), 0.0, logits)
    scaled = jnp.where(jnp.isneginf(logits), -jnp.inf, finite / temperature)
    return jax.nn.log_softmax(scaled)


def cross_entropy(
    log_p: Float[Array, "*batch classes"], log_q: Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """Compute minus the sum of p log q, with 0 log 0 = 0."""
    p = jnp.exp(log_p)
    return -jnp.sum(p * jnp.where(p == 0.0, 0.0, log_q), axis=-1)
