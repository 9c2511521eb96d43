"""The contract of a distillation method, optax's idea carried over."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxkd._errors import InvalidInputError
from jaxkd.data import Mixed
from jaxkd.models import ModelOutput

PyTree = Any
Metrics = dict[str, Array]

RESERVED_METRICS = frozenset(
    {"loss", "accuracy", "skipped", "grad_norm", "learning_rate"}
)
"""Names of the training step's own metrics, which no part of a mixture may have."""


class Views(NamedTuple):
    """What the networks make of a batch's further images (:attr:`Distiller.views`).

    Attributes:
        student: The student's output for them, in their order.
        teacher: The teacher's, or None where there is no teacher (plain training).
    """

    student: ModelOutput
    teacher: ModelOutput | None


class Batch(NamedTuple):
    """One training batch as distillers see it.

    Attributes:
        images: What both networks were given before normalisation, NHWC.
        labels: Class numbers.
        rows: Row numbers of the examples in the training set (banks need them).
        key: Randomness of this step; derived from the run's seed and the step.
        views: The networks' outputs for the images that :attr:`Distiller.views` makes
            of these, or None if the distiller has no views.
        mixed: What mixup or CutMix mixed into the images, or None. ``labels`` and
            ``rows`` are those of the image that dominates; a method that takes no
            notice of ``mixed`` goes by them.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"]
    key: PRNGKeyArray
    views: Views | None = None
    mixed: Mixed | None = None


class Classifier(NamedTuple):
    """A linear layer that makes logits of embeddings.

    Attributes:
        kernel: Its matrix.
        bias: What it adds; zeros if it has none.
    """

    kernel: Float[Array, "features classes"]
    bias: Float[Array, " classes"]

    def __call__(
        self, embedding: Float[Array, "batch features"]
    ) -> Float[Array, "batch classes"]:
        """The logits, in the embedding's dtype."""
        kernel, bias = (x.astype(embedding.dtype) for x in self)
        return embedding @ kernel + bias[None]


class Spec(NamedTuple):
    """What a distiller may know before the first step.

    Attributes:
        student: The student's abstract output for one batch (``jax.eval_shape``).
        teacher: The teacher's abstract output for one batch, or None where there is no
            teacher (plain training).
        num_classes: Number of classes.
        labels: Labels of the whole training set, in row order.
        classifier: The teacher's, if it is known to be linear: for methods that use
            it again.
    """

    student: ModelOutput
    teacher: ModelOutput | None
    num_classes: int
    labels: Int[np.ndarray, " rows"]
    classifier: Classifier | None = None


class DistillerState(NamedTuple):
    """What a distiller brings into the training state.

    Attributes:
        params: Trained together with the student by the same optimizer.
        extra: Banks, statistics and constants; checkpointed, never optimized.
    """

    params: PyTree
    extra: PyTree


Loss = Callable[
    [PyTree, PyTree, ModelOutput, Any, Batch],
    tuple[Float[Array, " batch"], PyTree, Metrics],
]


def _keep(params: PyTree, extra: PyTree) -> DistillerState:
    return DistillerState(params, extra)


class Pretraining(NamedTuple):
    """A stage before training, with an objective of its own.

    What its loss does not reach, the stage leaves as it is, weight decay included.

    Attributes:
        epochs: How long it lasts.
        loss: As :attr:`Distiller.loss`.
        trains_student: Whether the student takes part. Otherwise its parameters and
            batch statistics stay as they are, and only heads are trained.
        finish: ``(params, extra) -> DistillerState`` that training starts with: the
            place to move what is trained no more from ``params`` to ``extra``.
    """

    epochs: int
    loss: Loss
    trains_student: bool = True
    finish: Callable[[PyTree, PyTree], DistillerState] = _keep


class Distiller(NamedTuple):
    """A distillation method as a pair of pure functions.

    Attributes:
        init: ``(rngs, spec) -> DistillerState``.
        loss: ``(params, extra, student, teacher, batch) -> (per_example, extra,
            metrics)``; one value per example, the next ``extra``, and scalars worth
            watching. The training step takes the mean of the values. ``teacher`` is
            None in plain training; a method that reads it refuses that in ``init``.
        pretraining: A stage before, for methods that have two. It starts from what
            ``init`` gives.
        views: Makes further images of a batch's augmented ones, before normalisation:
            ``[batch, h, w, c]`` to ``[views*batch, h, w, c]`` of the same dtype. Both
            networks see them in the same forward pass as the batch, in both stages,
            so that batch statistics are those of all images together. ``student`` and
            ``teacher`` stay the outputs for the batch; those for the views are in
            :attr:`Batch.views`.
        student: ``(network, spec, rngs) -> network``: makes the network that is trained
            and used of the one that was asked for, where a method changes how the
            student predicts. What it adds belongs to the student, so evaluation,
            checkpoints and exports hold it. ``spec`` is that of the given network;
            ``init`` and ``loss`` see the outputs of the one that is made.
    """

    init: Callable[[nnx.Rngs, Spec], DistillerState]
    loss: Loss
    pretraining: Pretraining | None = None
    views: Callable[[Array], Array] | None = None
    student: Callable[[nnx.Module, Spec, nnx.Rngs], nnx.Module] | None = None


def require_output(spec: Spec, method: str) -> ModelOutput:
    """The teacher's abstract output, whatever its classes.

    Raises:
        ValueError: If there is no teacher.
    """
    if spec.teacher is None:
        raise InvalidInputError(
            f"{method} needs a teacher, but none was given", argument="spec"
        )
    return spec.teacher


def require_classifier(spec: Spec, method: str) -> Classifier:
    """The teacher's classifier.

    Raises:
        ValueError: If there is no teacher, or its classifier is not known.
    """
    require_output(spec, method)
    if spec.classifier is None:
        raise InvalidInputError(
            f"{method} uses the teacher's classifier, but the teacher has no "
            "nnx.Linear in the attribute 'classifier'",
            argument="spec",
        )
    return spec.classifier


def require_stages(
    spec: Spec, method: str, *, preactivations: bool = False, equal: bool = True
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The abstract feature maps of student and teacher, from the stem on.

    Args:
        spec: What is known of the networks.
        method: Its name, for the message.
        preactivations: Whether to return the maps before their activation.
        equal: Whether both networks must have equally many.

    Raises:
        ValueError: If there is no teacher, a network gives no feature maps beyond the
            stem's, or their numbers differ.
    """
    teacher = require_output(spec, method)
    kind = "preactivations" if preactivations else "stages"
    maps = getattr(spec.student, kind), getattr(teacher, kind)
    for name, found in zip(("student", "teacher"), maps, strict=True):
        if len(found) < 2:
            raise InvalidInputError(
                f"{method} compares feature maps, but the {name}'s output has "
                f"{len(found)} {kind}; choose a network that returns them",
                argument="spec",
            )
    if equal and len(maps[0]) != len(maps[1]):
        raise InvalidInputError(
            f"{method} compares the networks stage by stage, but the student has "
            f"{len(maps[0])} and the teacher {len(maps[1])}",
            argument="spec",
        )
    return maps


def require_teacher(spec: Spec, method: str) -> ModelOutput:
    """The teacher's abstract output, for methods that compare logits.

    Raises:
        ValueError: If there is no teacher, or it has other classes than the student.
    """
    teacher_output = require_output(spec, method)
    student, teacher = (
        spec.student.logits.shape[-1],
        teacher_output.logits.shape[-1],
    )
    if student != teacher:
        raise InvalidInputError(
            f"{method} compares logits, but the student has {student} classes and the "
            f"teacher {teacher}",
            argument="spec",
        )
    return teacher_output
