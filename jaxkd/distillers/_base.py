"""The contract of a distillation method, optax's idea carried over."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

PyTree = Any
Metrics = dict[str, Array]


class Batch(NamedTuple):
    """One training batch as distillers see it.

    Attributes:
        images: What both networks were given before normalisation, NHWC.
        labels: Class numbers.
        rows: Row numbers of the examples in the training set (banks need them).
        key: Randomness of this step; derived from the run's seed and the step.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"]
    key: PRNGKeyArray


class Spec(NamedTuple):
    """What a distiller may know before the first step.

    Attributes:
        student: The student's abstract output for one batch (``jax.eval_shape``).
        teacher: The teacher's abstract output for one batch, or None where there is no
            teacher (plain training).
        num_classes: Number of classes.
        labels: Labels of the whole training set, in row order.
    """

    student: ModelOutput
    teacher: ModelOutput | None
    num_classes: int
    labels: Int[np.ndarray, " rows"]


class DistillerState(NamedTuple):
    """What a distiller brings into the training state.

    Attributes:
        params: Trained together with the student by the same optimizer.
        extra: Banks, statistics and constants; checkpointed, never optimized.
    """

    params: PyTree
    extra: PyTree


class Distiller(NamedTuple):
    """A distillation method as a pair of pure functions.

    Attributes:
        init: ``(rngs, spec) -> DistillerState``.
        loss: ``(params, extra, student, teacher, batch) -> (per_example, extra,
            metrics)``; one value per example, the next ``extra``, and scalars worth
            watching. The training step takes the mean of the values. ``teacher`` is
            None in plain training; a method that reads it refuses that in ``init``.
    """

    init: Callable[[nnx.Rngs, Spec], DistillerState]
    loss: Callable[
        [PyTree, PyTree, ModelOutput, Any, Batch],
        tuple[Float[Array, " batch"], PyTree, Metrics],
    ]


def require_teacher(spec: Spec, method: str) -> ModelOutput:
    """The teacher's abstract output.

    Raises:
        ValueError: If there is no teacher, or it has other classes than the student.
    """
    if spec.teacher is None:
        raise InvalidInputError(f"{method} needs a teacher, but none was given")
    student, teacher = (
        spec.student.logits.shape[-1],
        spec.teacher.logits.shape[-1],
    )
    if student != teacher:
        raise InvalidInputError(
            f"{method} compares logits, but the student has {student} classes and the "
            f"teacher {teacher}"
        )
    return spec.teacher
