"""The training step: ``prepare`` makes a lesson, from which a student can ``learn``.

``step = learn(state, prepare(...))`` is one pure function of state, teacher and batch.
:mod:`skip_nonfinite` and :mod:`moving_average` wrap ``learn`` and return the same kind
of function, as optax transformations do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Int, PRNGKeyArray, Shaped

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data import Augmentation, Mixed, Normalization, augment, mix
from jaxkd.distillers import Batch, Distiller, DistillerState, Spec, Views
from jaxkd.distillers._base import RESERVED_METRICS
from jaxkd.models import ModelOutput
from jaxkd.training._optimizers import learning_rate_of
from jaxkd.training._state import (
    Metrics,
    PyTree,
    TrainState,
    augmentation_key,
    data_key_of,
)
from jaxkd.training._step.frozen import FrozenNetwork, network_inputs
from jaxkd.training._step.remat import make_forward


class Examples(NamedTuple):
    """A batch as the dataset stores it: not augmented, not normalized.

    Attributes:
        images: uint8, or floats in ``[0, 1]``, NHWC.
        labels: Class numbers.
        rows: Row numbers in the training set; None if no method needs them.
        teacher: The teacher's recorded output for the augmented images, or None. It is
            used if the step has no teacher's network.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"] | None
    teacher: ModelOutput | None = None


class Lesson(NamedTuple):
    """The part of a step that is computed once, however many students learn from it.

    Attributes:
        images: The augmented images, before normalization.
        labels: Class numbers.
        rows: Row numbers in the training set, or None.
        inputs: The students' input: images and views, normalized.
        teacher: The teacher's output for the images, or None without a teacher.
        teacher_views: The teacher's output for the views, or None without views.
        mixed: The images that mixup or CutMix mixed in, or None.
        labeled: Which images have a label, or None if all have one.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"] | None
    inputs: Shaped[Array, "inputs height width channels"]
    teacher: ModelOutput | None
    teacher_views: ModelOutput | None
    mixed: Mixed | None
    labeled: Bool[Array, " batch"] | None = None


TrainStep = Callable[[TrainState, PyTree, Examples], tuple[TrainState, Metrics]]

Prepare = Callable[[PRNGKeyArray, Array, PyTree, Examples], Lesson]
"""``(data_key, step, teacher_variables, examples) -> lesson``."""

Learn = Callable[[TrainState, Lesson], tuple[TrainState, Metrics]]
"""``(state, lesson) -> (state, metrics)``."""


def init_train_state(
    student: nnx.Module,
    distiller: Distiller,
    spec: Spec,
    optimizer: optax.GradientTransformation,
    *,
    key: PRNGKeyArray,
    data_key: PRNGKeyArray | None = None,
) -> TrainState:
    """Return the state before the first step.

    Args:
        student: The network to train. Its variables are copied.
        distiller: The objective.
        spec: Facts about networks and data for the distiller.
        optimizer: An optax optimizer.
        key: The source of the heads' initialization and of the student's own
            randomness.
        data_key: The source of the order of the data and of augmentation. By default it
            is derived from ``key``.

    Returns:
        A state that shares no buffer with ``student``, so that it can be donated.
    """
    _, params, rest = nnx.split(student, nnx.Param, ...)
    params, rest = jax.tree.map(jnp.copy, (params, rest))
    heads_key, key = jax.random.split(key)
    if data_key is None:
        data_key = data_key_of(key)
    heads: DistillerState = distiller.init(nnx.Rngs(heads_key), spec)
    return TrainState(
        student=params,
        heads=heads.params,
        rest=rest,
        extra=heads.extra,
        opt_state=optimizer.init({"student": params, "heads": heads.params}),
        key=key,
        data_key=jnp.copy(data_key),
        step=jnp.zeros((), jnp.int32),
    )


def make_train_step(
    graphdef: nnx.GraphDef,
    distiller: Distiller,
    optimizer: optax.GradientTransformation,
    *,
    teacher: FrozenNetwork | None = None,
    normalization: Normalization | None = None,
    augmentation: Augmentation | None = None,
    pretraining: bool = False,
    steps_per_epoch: int | None = None,
    has_unlabeled: bool = False,
) -> TrainStep:
    """Build the training step; the caller compiles it and donates the state.

    The step is one program: augmentation, the frozen teacher's forward pass, the
    student's forward and backward pass, the distiller's graph, sampling and bank, and
    the optimizer. If the distiller has views of the images, each network sees batch and
    views in one forward pass. The accuracy is computed on the batch alone.

    Args:
        graphdef: The student's static part (``nnx.split``).
        distiller: The objective.
        optimizer: An optax optimizer, for the student and the heads together.
        teacher: The frozen teacher. Its variables are an argument of the step, so they
            are not compiled in as constants.
        normalization: Applied to the student's images after augmentation. Without it,
            the student sees floats in ``[0, 1]``.
        augmentation: Applied to the images of student and teacher alike. If it mixes
            images, the accuracy uses the dominant labels.
        pretraining: Whether to build the step of the distiller's pretraining stage
            instead. It does not change parameters that its loss does not reach, not
            even by weight decay.
        steps_per_epoch: Number of steps in an epoch, for schedules of weights and
            temperatures. If the distiller has a pretraining stage, the training stage
            is taken to begin after ``pretraining.epochs`` epochs, whatever the step
            that a run was resumed at.
        has_unlabeled: Whether some images have the label -1, which stands for none.

    Returns:
        ``(state, teacher_variables, examples) -> (state, metrics)``. Metrics are
        scalars: ``loss``; ``accuracy`` of the student on the augmented batch (not in
        pretraining); with unlabeled images, ``labeled``, the share of the others, and
        ``accuracy`` then counts an unlabeled image as wrong, so divide it by that; the
        distiller's own metrics; ``grad_norm``, the Euclidean norm of the gradient of
        all trained parameters, before weight decay; and
        ``learning_rate``, if the optimizer is one of this package's.

    Raises:
        ValueError: If ``pretraining`` is True but the distiller has no such stage. From
            the step, while it is traced, if the distiller's views do not fit the
            images or one of its metrics has a reserved name.
    """
    prepare = make_prepare(
        distiller, teacher, normalization, augmentation, has_unlabeled=has_unlabeled
    )
    learn = make_learn(
        graphdef,
        distiller,
        optimizer,
        pretraining=pretraining,
        steps_per_epoch=steps_per_epoch,
    )

    def step(state: TrainState, teacher_variables: PyTree, examples: Examples):
        lesson = prepare(state.data_key, state.step, teacher_variables, examples)
        return learn(state, lesson)

    return step


def make_prepare(
    distiller: Distiller,
    teacher: FrozenNetwork | None,
    normalization: Normalization | None,
    augmentation: Augmentation | None,
    *,
    has_unlabeled: bool = False,
) -> Prepare:
    """Build the part of a step that all students share.

    It augments the images, makes the distiller's views and runs the teacher. The
    arguments are those of :func:`make_train_step`.
    """
    views_of = distiller.views

    def prepare(
        data_key: PRNGKeyArray, step: Array, teacher_variables: PyTree, given: Examples
    ) -> Lesson:
        images, mixed = given.images, None
        labels = _checks.as_class_numbers(given.labels)
        rows = None if given.rows is None else _checks.as_row_numbers(given.rows)
        if augmentation is not None:
            key = augmentation_key(data_key, step)
            images = augment(key, images, augmentation)
            # A key that augmentation does not split off.
            mix_key = jax.random.fold_in(key, 2)
            images, mixed = mix(mix_key, images, labels, augmentation)
        seen = images if views_of is None else _with_views(images, views_of)
        output, views = given.teacher, None
        if teacher is not None:
            output = jax.lax.stop_gradient(teacher.apply(teacher_variables, seen))
            if views_of is not None:
                output, views = _split(output, len(images))
        inputs = network_inputs(seen, normalization)
        labeled = None
        if has_unlabeled:
            labeled = (
                labels >= 0 if mixed is None else (labels >= 0) & (mixed.labels >= 0)
            )
        return Lesson(images, labels, rows, inputs, output, views, mixed, labeled)

    return prepare


def make_learn(
    graphdef: nnx.GraphDef,
    distiller: Distiller,
    optimizer: optax.GradientTransformation,
    *,
    pretraining: bool = False,
    steps_per_epoch: int | None = None,
    remat: bool = False,
) -> Learn:
    """Build the part of a step that belongs to one student.

    With ``jax.vmap`` over the states of several students, all learn from one lesson.
    The arguments are those of :func:`make_train_step`, and ``remat`` is that of
    :func:`compile_program`.
    """
    stage = distiller.pretraining if pretraining else None
    if pretraining and stage is None:
        raise InvalidInputError(
            "pretraining is True, but distiller has no pretraining stage. Pass "
            "pretraining=False.",
            argument="pretraining",
        )
    if steps_per_epoch is not None:
        _checks.check_at_least(1, steps_per_epoch=steps_per_epoch)
    step_of = _counting(distiller, steps_per_epoch, pretraining=pretraining)
    loss_of = distiller.loss if stage is None else stage.loss
    trains_student = stage is None or stage.trains_student
    call_student = make_forward(graphdef, remat=remat, layers=distiller.layers.student)

    def forward(params: PyTree, state: TrainState, lesson: Lesson):
        """Return the loss, and beside it the new variables and the metrics."""
        key = jax.random.fold_in(state.key, state.step)
        batch = Batch(
            lesson.images,
            lesson.labels,
            lesson.rows,
            key,
            mixed=lesson.mixed,
            step=step_of(state.step),
            steps_per_epoch=steps_per_epoch,
            labeled=lesson.labeled,
        )
        trained = params["student"]
        if not trains_student:
            trained = jax.lax.stop_gradient(trained)
        output, rest = call_student(trained, state.rest, lesson.inputs)
        if distiller.views is not None:
            output, student_views = _split(output, len(lesson.images))
            batch = batch._replace(views=Views(student_views, lesson.teacher_views))
        per_example, extra, metrics = loss_of(
            params["heads"], state.extra, output, lesson.teacher, batch
        )
        _check_names(metrics)
        rest = rest if trains_student else state.rest
        loss = jnp.mean(per_example)
        if stage is None:
            correct = (
                output.logits.argmax(-1).astype(batch.labels.dtype) == batch.labels
            )
            if batch.labeled is not None:
                correct &= batch.labeled
                share = jnp.mean(batch.labeled, dtype=loss.dtype)
                metrics = {"labeled": share, **metrics}
            metrics = {"accuracy": jnp.mean(correct, dtype=loss.dtype), **metrics}
        return loss, (rest, extra, {"loss": loss, **metrics})

    def learn(state: TrainState, lesson: Lesson) -> tuple[TrainState, Metrics]:
        params: Any = state.trainable
        gradient = jax.grad(forward, has_aux=True)
        grads, (rest, extra, metrics) = gradient(params, state, lesson)
        # optax's schedules and bias corrections mix integer counts with floats.
        with jax.numpy_dtype_promotion("standard"):
            metrics["grad_norm"] = optax.tree.norm(grads)
            rate = learning_rate_of(optimizer, state.opt_state)
            if rate is not None:
                metrics["learning_rate"] = rate.astype(metrics["loss"].dtype)
            updates, opt_state = optimizer.update(grads, state.opt_state, params)
            if stage is not None:
                updates = jax.tree.map(_where_reached, grads, updates)
            params = optax.apply_updates(params, updates)
        return state._replace(
            **params, rest=rest, extra=extra, opt_state=opt_state, step=state.step + 1
        ), metrics

    return learn


def _counting(
    distiller: Distiller, steps_per_epoch: int | None, *, pretraining: bool
) -> Callable[[Array], Array | None]:
    """Return the function from a state's step to :attr:`Batch.step`.

    A state counts the steps of both stages. Where the second one begins is a constant,
    so that a resumed run finds it too.
    """
    if pretraining or distiller.pretraining is None:
        return lambda step: step
    if steps_per_epoch is None:
        return lambda step: None
    first = distiller.pretraining.epochs * steps_per_epoch
    return lambda step: jnp.maximum(step - first, 0)


def _check_names(metrics: Metrics) -> None:
    """Refuse metrics that would overwrite the step's own."""
    for name in metrics:
        if name in RESERVED_METRICS:
            raise InvalidInputError(
                f"distiller returned a metric named {name!r}, which is a metric of the "
                "training step. Give it another name.",
                argument="distiller",
            )


def _where_reached(gradient: Array, update: Array) -> Array:
    """Return the update, or zeros if the gradient is zero throughout."""
    return jnp.where(jnp.any(gradient != 0), update, jnp.zeros_like(update))


def _with_views(images: Array, views_of: Callable[[Array], Array]) -> Array:
    """Append the views to the images."""
    views = views_of(images)
    fits = views.ndim == images.ndim and views.shape[1:] == images.shape[1:]
    if not fits or len(views) % len(images) or views.dtype != images.dtype:
        raise InvalidInputError(
            f"distiller.views must return a multiple of the batch, with the images' "
            f"size and dtype, got {views.dtype}{list(views.shape)} for "
            f"{images.dtype}{list(images.shape)}",
            argument="distiller",
        )
    return jnp.concatenate([images, views])


def _split(output: ModelOutput, rows: int) -> tuple[ModelOutput, ModelOutput]:
    """Split an output into that of the batch and that of its views."""
    first = jax.tree.map(lambda x: x[:rows], output)
    return first, jax.tree.map(lambda x: x[rows:], output)
