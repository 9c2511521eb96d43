"""The interface of a distillation method, modeled on optax."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd._text import array_type
from jaxkd.data import Mixed
from jaxkd.models import ModelOutput

PyTree = Any
Metrics = dict[str, Array]

RESERVED_METRICS = frozenset(
    {"loss", "accuracy", "labeled", "skipped", "grad_norm", "learning_rate"}
)
"""Names of the training step's own metrics, which no part of a mixture may have."""


class Views(NamedTuple):
    """Outputs of the networks for a batch's views (:attr:`Distiller.views`).

    Attributes:
        student: Output of the student for the views, in their order.
        teacher: Output of the teacher, or None in training without a teacher.
    """

    student: ModelOutput
    teacher: ModelOutput | None


class Batch(NamedTuple):
    """One training batch as distillers receive it.

    Attributes:
        images: Images that both networks received, before normalization, NHWC.
        labels: Class numbers.
        rows: Row numbers of the examples in the training set, which banks need; None if
            a loop of your own does not pass them.
        key: Random key of this step, derived from the run's seed and the step.
        views: Outputs of the networks for the images that :attr:`Distiller.views`
            returns for this batch, or None if the distiller has no views.
        mixed: The partners that mixup or CutMix mixed into the images, or None.
            ``labels`` and ``rows`` belong to the image that dominates; a method that
            ignores ``mixed`` uses those.
        step: Number of steps since the beginning of this stage, from 0: training does
            not count the steps of pretraining. None if it is not known.
        steps_per_epoch: Number of steps in an epoch, or None if it is not known.
        labeled: Which images have a label; None if all have one, so that nothing is
            computed for this case. The others have the label -1, which is no class
            number (:func:`jaxkd.data.with_unlabeled`). A mixed image has a label if
            both of its images have one.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"] | None
    key: PRNGKeyArray
    views: Views | None = None
    mixed: Mixed | None = None
    step: Int[Array, ""] | None = None
    steps_per_epoch: int | None = None

    @property
    def epoch(self) -> Float[Array, ""]:
        """Number of epochs since the beginning of this stage, with its fraction.

        It is ``step / steps_per_epoch``, and exactly an integer at the first step of an
        epoch.

        Raises:
            ValueError: If ``step`` or ``steps_per_epoch`` is None.
        """
        if self.step is None or self.steps_per_epoch is None:
            missing = "step" if self.step is None else "steps_per_epoch"
            raise InvalidInputError(
                f"batch.epoch is not known, because batch.{missing} is None; pass "
                "steps_per_epoch to training.make_train_step, or step and "
                "steps_per_epoch to Batch",
                argument="batch",
            )
        dtype = jax.dtypes.canonicalize_dtype(float)
        # Integers are divided exactly on every device.
        whole, part = jnp.divmod(self.step, self.steps_per_epoch)
        fraction = part.astype(dtype) / jnp.asarray(self.steps_per_epoch, dtype)
        return whole.astype(dtype) + fraction

    labeled: Bool[Array, " batch"] | None = None


class Classifier(NamedTuple):
    """A linear layer from embeddings to logits.

    Attributes:
        kernel: Matrix of the layer.
        bias: Bias of the layer; zeros if it has none.
    """

    kernel: Float[Array, "features classes"]
    bias: Float[Array, " classes"]

    def __call__(
        self, embedding: Float[Array, "batch features"]
    ) -> Float[Array, "batch classes"]:
        """Return the logits, in the embedding's dtype."""
        kernel, bias = (x.astype(embedding.dtype) for x in self)
        return embedding @ kernel + bias[None]

    def __repr__(self) -> str:
        kernel, bias = map(array_type, self)
        return f"Classifier(kernel={kernel}, bias={bias})"


class Spec(NamedTuple):
    """Everything that a distiller may know before the first step.

    Attributes:
        student: Abstract output of the student for one batch (``jax.eval_shape``).
        teacher: Abstract output of the teacher for one batch, or None in training
            without a teacher.
        num_classes: Number of classes.
        labels: Labels of the whole training set, in row order; -1 for none.
        classifier: Classifier of the teacher, if it is known to be linear: for methods
            that reuse it.
    """

    student: ModelOutput
    teacher: ModelOutput | None
    num_classes: int
    labels: Int[np.ndarray, " rows"]
    classifier: Classifier | None = None

    def __repr__(self) -> str:
        return (
            f"Spec(student={self.student}, teacher={self.teacher}, "
            f"num_classes={self.num_classes}, labels={array_type(self.labels)}, "
            f"classifier={self.classifier})"
        )


class DistillerState(NamedTuple):
    """The part of the training state that belongs to a distiller.

    Attributes:
        params: Parameters that the optimizer trains together with the student's.
        extra: Banks, statistics and constants: checkpointed, but never optimized.
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
    """A stage before training, with its own objective.

    The stage leaves parameters that its loss does not reach unchanged; they get no
    weight decay either.

    Attributes:
        epochs: Number of epochs.
        loss: Loss of the stage, as :attr:`Distiller.loss`.
        trains_student: Whether to train the student. Otherwise its parameters and
            batch statistics do not change, and only the heads are trained.
        finish: ``(params, extra) -> DistillerState``: the state that training starts
            with. Move parameters that are no longer trained from ``params`` to
            ``extra`` here.
    """

    epochs: int
    loss: Loss
    trains_student: bool = True
    finish: Callable[[PyTree, PyTree], DistillerState] = _keep


class LayerPaths(NamedTuple):
    """Paths of the layers that a distiller reads (:attr:`Distiller.layers`).

    Attributes:
        student: Paths of layers of the student.
        teacher: Paths of layers of the teacher.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    def joined(self, other: "LayerPaths") -> "LayerPaths":
        """Return the paths of both, each once."""
        both = zip(self, other, strict=True)
        return LayerPaths(*(tuple(dict.fromkeys(a + b)) for a, b in both))


class Distiller(NamedTuple):
    """A distillation method as a pair of pure functions.

    Attributes:
        init: ``(rngs, spec) -> DistillerState``.
        loss: ``(params, extra, student, teacher, batch) -> (per_example, extra,
            metrics)``: one value per example, the next ``extra``, and scalars to
            record. The training step takes the mean of the values. ``teacher`` is
            None in training without a teacher; a method that reads it raises an error
            in ``init``.
        pretraining: A stage before training, for methods with two stages. It starts
            from the state that ``init`` returns.
        views: Function from a batch's augmented images to further images (views),
            before normalization: ``[batch, h, w, c]`` to ``[views*batch, h, w, c]`` of
            the same dtype. Both networks process the views in the same forward pass
            as the batch, in both stages, so that batch statistics are those of all
            images together. ``student`` and ``teacher`` remain the outputs for the
            batch; the outputs for the views are in :attr:`Batch.views`.
        student: ``(network, spec, rngs) -> network``: returns the network to train and
            use in place of the given one, for methods that change how the student
            predicts. Added layers belong to the student, so evaluation, checkpoints
            and exports include them. ``spec`` describes the given network;
            ``init`` and ``loss`` receive the outputs of the returned one.
        layers: Paths of the layers whose outputs ``loss`` reads, from
            :attr:`jaxkd.models.ModelOutput.layers`. Other layers are not recorded.
    """

    init: Callable[[nnx.Rngs, Spec], DistillerState]
    loss: Loss
    pretraining: Pretraining | None = None
    views: Callable[[Array], Array] | None = None
    student: Callable[[nnx.Module, Spec, nnx.Rngs], nnx.Module] | None = None
    layers: LayerPaths = LayerPaths()

    def __repr__(self) -> str:
        shown = [getattr(self.loss, "__qualname__", repr(self.loss)).split(".")[0]]
        if self.pretraining is not None:
            shown.append(f"pretraining={self.pretraining.epochs} epochs")
        shown += [f"{k}=True" for k in ("views", "student") if getattr(self, k)]
        if self.layers != LayerPaths():
            shown.append(f"layers={self.layers}")
        return f"Distiller({', '.join(shown)})"


def rows_of(batch: Batch) -> Int[Array, " batch"]:
    """Return the row numbers of a batch, for methods with a memory bank.

    Raises:
        TypeError: If they are missing, or not integers.
    """
    if batch.rows is None:
        raise InvalidTypeError(
            "batch.rows is None, but the method has a memory bank with a row for each "
            "training image. Pass the batch's row numbers, too: (images, labels, rows)",
            argument="batch",
        )
    return _checks.as_row_numbers(batch.rows, "batch.rows")


def require_output(spec: Spec, method: str) -> ModelOutput:
    """Return the teacher's abstract output, whatever its classes.

    Raises:
        ValueError: If there is no teacher.
    """
    if spec.teacher is None:
        raise InvalidInputError(
            f"{method} needs a teacher, but none was given", argument="spec"
        )
    return spec.teacher


def require_embeddings(spec: Spec, method: str) -> ModelOutput:
    """Return the teacher's abstract output, for methods that compare embeddings.

    Raises:
        ValueError: If there is no teacher, or a network returns logits alone.
    """
    teacher = require_output(spec, method)
    for name, output in (("student", spec.student), ("teacher", teacher)):
        check_embedding(output, name, method)
    return teacher


def check_embedding(output: ModelOutput, name: str, method: str) -> None:
    """Raise unless a network's abstract output has an embedding."""
    if not output.embedding.shape[-1]:
        raise InvalidInputError(
            f"{method} reads embeddings, but the {name} returns logits alone. Name a "
            f"layer: distillers.Layers({name}_embedding=path), or let the network "
            "return models.ModelOutput(logits, embedding).",
            argument="spec",
        )


def require_classifier(spec: Spec, method: str) -> Classifier:
    """Return the teacher's classifier.

    Raises:
        ValueError: If there is no teacher, or its classifier is not known.
    """
    require_output(spec, method)
    if spec.classifier is None:
        raise InvalidInputError(
            f"{method} uses the teacher's classifier, but the teacher has no "
            "nnx.Linear in the attribute 'classifier'; give it one of that name",
            argument="spec",
        )
    return spec.classifier


def require_stages(
    spec: Spec, method: str, *, preactivations: bool = False, equal: bool = True
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the abstract feature maps of student and teacher, from the stem on.

    Args:
        spec: Specification of the networks.
        method: Name of the method, for the error.
        preactivations: Whether to return the maps before their activation.
        equal: Whether both networks must have the same number of stages.

    Raises:
        ValueError: If there is no teacher, a network returns no feature maps beyond the
            stem's, or the numbers of stages differ.
    """
    teacher = require_output(spec, method)
    kind = "preactivations" if preactivations else "stages"
    maps = getattr(spec.student, kind), getattr(teacher, kind)
    for name, found in zip(("student", "teacher"), maps, strict=True):
        if len(found) < 2:
            raise InvalidInputError(
                f"{method} compares feature maps, but the {name}'s output has "
                f"{len(found)} {kind}; name layers, such as "
                f"distillers.Layers({name}=(path,)), or choose a network that returns "
                "them",
                argument="spec",
            )
    if equal and len(maps[0]) != len(maps[1]):
        raise InvalidInputError(
            f"{method} compares the networks stage by stage, but the student has "
            f"{len(maps[0])} and the teacher {len(maps[1])}; choose networks with as "
            "many stages",
            argument="spec",
        )
    return maps


def require_teacher(spec: Spec, method: str) -> ModelOutput:
    """Return the teacher's abstract output, for methods that compare logits.

    Raises:
        ValueError: If there is no teacher, or the numbers of classes differ.
    """
    teacher_output = require_output(spec, method)
    student, teacher = (
        spec.student.logits.shape[-1],
        teacher_output.logits.shape[-1],
    )
    if student != teacher:
        raise InvalidInputError(
            f"{method} compares logits, but the student has {student} classes and the "
            f"teacher {teacher}; choose a method that compares embeddings or feature "
            "maps",
            argument="spec",
        )
    return teacher_output
