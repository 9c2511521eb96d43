"""The compiled step: one pure function of state, teacher and batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from jaxkd._errors import InvalidInputError
from jaxkd.data import Augmentation, Mixed, Normalization, augment, mix
from jaxkd.distillers import Batch, Distiller, DistillerState, Spec, Views
from jaxkd.models import ModelOutput
from jaxkd.training._networks import FrozenNetwork, network_inputs

PyTree = Any
Metrics = dict[str, Array]

# Sets the data's randomness apart from all other that a run draws from its seed.
_DATA_STREAM = 0x64617461


class TrainState(NamedTuple):
    """Everything that training changes, and nothing else.

    Attributes:
        student: The student's parameters.
        heads: The distiller's parameters; the same optimizer trains them.
        rest: The student's other variables: batch statistics, dropout counters.
        extra: The distiller's banks and constants.
        opt_state: The optimizer's state.
        key: The student's own randomness (drawing of negatives, say); every step folds
            its number into it.
        data_key: Randomness of the data: their order and augmentation. Students with
            the same one see the same images, and so can share a teacher's answers.
        step: Number of steps taken.
        average: The student's moving average; ``()`` where none is kept.
    """

    student: PyTree
    heads: PyTree
    rest: PyTree
    extra: PyTree
    opt_state: PyTree
    key: PRNGKeyArray
    data_key: PRNGKeyArray
    step: Int[Array, ""]
    average: PyTree = ()


class Examples(NamedTuple):
    """A batch as it lies in the dataset: not augmented, not normalised.

    Attributes:
        images: uint8, or floats in ``[0, 1]``, NHWC.
        labels: Class numbers.
        rows: Row numbers in the training set.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"]


class Lesson(NamedTuple):
    """What a step computes once, however many students learn from it.

    Attributes:
        images: The augmented images, before normalisation.
        labels: Class numbers.
        rows: Row numbers in the training set.
        inputs: What students are given: images and views, normalised.
        teacher: The teacher's output for the images, or None without a teacher.
        teacher_views: Its output for the views, or None without.
        mixed: What mixup or CutMix mixed into the images, or None.
    """

    images: Shaped[Array, "batch height width channels"]
    labels: Int[Array, " batch"]
    rows: Int[Array, " batch"]
    inputs: Shaped[Array, "inputs height width channels"]
    teacher: ModelOutput | None
    teacher_views: ModelOutput | None
    mixed: Mixed | None


TrainStep = Callable[[TrainState, PyTree, Examples], tuple[TrainState, Metrics]]


class StepParts(NamedTuple):
    """A training step in two parts: ``step = learn(state, prepare(...))``.

    Attributes:
        prepare: ``(data_key, step, teacher_variables, examples) -> Lesson``:
            augmentation and the teacher's forward pass.
        learn: ``(state, lesson) -> (state, metrics)``: everything else.
    """

    prepare: Callable[[PRNGKeyArray, Array, PyTree, Examples], Lesson]
    learn: Callable[[TrainState, Lesson], tuple[TrainState, Metrics]]


def data_key_of(key: PRNGKeyArray) -> PRNGKeyArray:
    """The randomness of the data, apart from whatever else is drawn from a key."""
    return jax.random.fold_in(key, _DATA_STREAM)


def order_key(data_key: PRNGKeyArray) -> PRNGKeyArray:
    """The randomness of the epochs' orders."""
    return jax.random.split(data_key)[0]


def augmentation_key(data_key: PRNGKeyArray, step: Int[Array, ""]) -> PRNGKeyArray:
    """The randomness of one step's augmentation."""
    return jax.random.fold_in(jax.random.split(data_key)[1], step)


def trainable(state: TrainState) -> PyTree:
    """What the optimizer sees."""
    return {"student": state.student, "heads": state.heads}


def init_train_state(
    student: nnx.Module,
    distiller: Distiller,
    spec: Spec,
    optimizer: optax.GradientTransformation,
    *,
    key: PRNGKeyArray,
    data_key: PRNGKeyArray | None = None,
) -> TrainState:
    """The state before the first step.

    Args:
        student: The network to train; its variables are copied.
        distiller: The objective.
        spec: What the distiller may know of networks and data.
        optimizer: Any optax optimizer.
        key: Source of the heads' initialisation and of the student's own randomness.
        data_key: Source of the order of the data and of augmentation; by default made
            of ``key``.

    Returns:
        A state that shares no buffer with ``student``, so that it may be donated.
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
) -> TrainStep:
    """Builds the training step; the caller compiles it and donates the state.

    Augmentation, the frozen teacher's forward pass, the student's forward and backward
    pass, the distiller's graph, sampling and bank, and the optimizer are one program.
    If the distiller has views of the images, each network sees batch and views in one
    forward pass; the accuracy is that on the batch alone.

    Args:
        graphdef: The student's static part (``nnx.split``).
        distiller: The objective.
        optimizer: Any optax optimizer, for the student and the heads together.
        teacher: The frozen teacher; its variables are passed to the step, so that they
            are not compiled in as constants.
        normalization: Applied to the student's images after augmentation; without it,
            the student sees floats in ``[0, 1]``.
        augmentation: Applied to the images of student and teacher alike. If it mixes
            them, the accuracy is that with the dominant labels.
        pretraining: Whether to build the step of the distiller's first stage instead.
            Parameters that its loss does not reach stay as they are, weight decay
            included.

    Returns:
        ``(state, teacher_variables, examples) -> (state, metrics)``. Metrics are
        scalars: ``loss``, ``accuracy`` (of the student on the augmented batch; not in
        pretraining), the distiller's own, and ``grad_norm``, the Euclidean norm of the
        gradient of all that is trained, before weight decay.

    Raises:
        ValueError: If pretraining is asked of a distiller that has none. From the step,
            while tracing, if the distiller's views do not fit the images.
    """
    prepare, learn = make_step_parts(
        graphdef,
        distiller,
        optimizer,
        teacher=teacher,
        normalization=normalization,
        augmentation=augmentation,
        pretraining=pretraining,
    )

    def step(state: TrainState, teacher_variables: PyTree, examples: Examples):
        return learn(
            state, prepare(state.data_key, state.step, teacher_variables, examples)
        )

    return step


def make_step_parts(
    graphdef: nnx.GraphDef,
    distiller: Distiller,
    optimizer: optax.GradientTransformation,
    *,
    teacher: FrozenNetwork | None = None,
    normalization: Normalization | None = None,
    augmentation: Augmentation | None = None,
    pretraining: bool = False,
) -> StepParts:
    """The step of :func:`make_train_step` in two parts, the first for all students.

    The second is a function of one student's state: with ``jax.vmap`` over the states
    of several, they learn from one lesson.
    """
    stage = distiller.pretraining if pretraining else None
    if pretraining and stage is None:
        raise InvalidInputError("distiller has no pretraining stage to build a step of")
    loss_of = distiller.loss if stage is None else stage.loss
    views_of = distiller.views

    def prepare(
        data_key: PRNGKeyArray, step: Array, teacher_variables: PyTree, given: Examples
    ) -> Lesson:
        images, mixed = given.images, None
        if augmentation is not None:
            key = augmentation_key(data_key, step)
            images = augment(key, images, augmentation)
            # A key that augmentation does not split off.
            mix_key = jax.random.fold_in(key, 2)
            images, mixed = mix(mix_key, images, given.labels, augmentation)
        seen = images if views_of is None else _with_views(images, views_of)
        output = views = None
        if teacher is not None:
            output = jax.lax.stop_gradient(teacher.apply(teacher_variables, seen))
            if views_of is not None:
                output, views = _split(output, len(images))
        inputs = network_inputs(seen, normalization)
        return Lesson(images, given.labels, given.rows, inputs, output, views, mixed)

    def learn(state: TrainState, lesson: Lesson) -> tuple[TrainState, Metrics]:
        images, labels, rows, inputs, teacher_output, teacher_views, mixed = lesson
        key = jax.random.fold_in(state.key, state.step)
        batch = Batch(images, labels, rows, key, mixed=mixed)

        def objective(params):
            trained = params["student"]
            if stage is not None and not stage.trains_student:
                trained = jax.lax.stop_gradient(trained)
            student = nnx.merge(graphdef, trained, state.rest, copy=True)
            output, given = student(inputs), batch
            if views_of is not None:
                output, student_views = _split(output, len(images))
                given = batch._replace(views=Views(student_views, teacher_views))
            per_example, extra, metrics = loss_of(
                params["heads"], state.extra, output, teacher_output, given
            )
            rest = nnx.state(student, nnx.Not(nnx.Param))
            loss = jnp.mean(per_example)
            if stage is None:
                correct = output.logits.argmax(-1).astype(labels.dtype) == labels
                accuracy = jnp.mean(correct, dtype=loss.dtype)
                metrics = {"accuracy": accuracy, **metrics}
            elif not stage.trains_student:
                rest = state.rest
            return loss, (rest, extra, {"loss": loss, **metrics})

        params: Any = trainable(state)
        grads, (rest, extra, metrics) = jax.grad(objective, has_aux=True)(params)
        # optax's schedules and bias corrections mix integer counts with floats.
        with jax.numpy_dtype_promotion("standard"):
            metrics["grad_norm"] = optax.tree.norm(grads)
            updates, opt_state = optimizer.update(grads, state.opt_state, params)
            if stage is not None:
                updates = jax.tree.map(_where_reached, grads, updates)
            params = optax.apply_updates(params, updates)
        return state._replace(
            student=params["student"],
            heads=params["heads"],
            rest=rest,
            extra=extra,
            opt_state=opt_state,
            step=state.step + 1,
        ), metrics

    return StepParts(prepare, learn)


def _where_reached(gradient: Array, update: Array) -> Array:
    """The update of a parameter whose gradient is not zero throughout."""
    return jnp.where(jnp.any(gradient != 0), update, jnp.zeros_like(update))


def _with_views(images: Array, views_of: Callable[[Array], Array]) -> Array:
    """The images and then their views."""
    views = views_of(images)
    fits = views.ndim == images.ndim and views.shape[1:] == images.shape[1:]
    if not fits or len(views) % len(images) or views.dtype != images.dtype:
        raise InvalidInputError(
            "distiller.views must return a multiple of the images it is given, of "
            f"their size and dtype, got {views.dtype}{list(views.shape)} for "
            f"{images.dtype}{list(images.shape)}"
        )
    return jnp.concatenate([images, views])


def _split(output: ModelOutput, rows: int) -> tuple[ModelOutput, ModelOutput]:
    """The output for the batch, and that for its views."""
    first = jax.tree.map(lambda x: x[:rows], output)
    return first, jax.tree.map(lambda x: x[rows:], output)
