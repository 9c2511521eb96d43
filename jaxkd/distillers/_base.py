"""The contract of a distillation method, optax's idea carried over."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

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
        teacher: The teacher's abstract output for one batch.
        num_classes: Number of classes.
        labels: Labels of the whole training set, in row order.
    """

    student: ModelOutput
    teacher: ModelOutput
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
            metrics)``: one value per example, the next ``extra``, and scalars worth
            watching. The training step takes the mean of the values.
    """

    init: Callable[[nnx.Rngs, Spec], DistillerState]
    loss: Callable[
        [PyTree, PyTree, ModelOutput, ModelOutput, Batch],
        tuple[Float[Array, " batch"], PyTree, Metrics],
    ]
