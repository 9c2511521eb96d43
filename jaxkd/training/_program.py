"""An experiment compiled once: resident data, the step, evaluation, any seed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Int

from jaxkd._checks import check_at_least
from jaxkd.data import (
    Augmentation,
    ImageDataset,
    Normalization,
    batch_rows,
    channel_statistics,
    epoch_order,
    normalize,
    steps_per_epoch,
)
from jaxkd.distillers import Distiller, Spec
from jaxkd.training._evaluate import Evaluation, make_evaluator
from jaxkd.training._guard import skip_nonfinite
from jaxkd.training._networks import FrozenNetwork, freeze
from jaxkd.training._step import (
    Examples,
    Metrics,
    TrainState,
    TrainStep,
    init_train_state,
    make_train_step,
    trainable,
)


class Monitor(NamedTuple):
    """What the loop remembers on the device, so that no step waits for the host.

    Attributes:
        totals: Sums of the metrics since the epoch began.
        failed_step: The first step whose loss was not finite, or -1. Where such steps
            are skipped, the first with which too many in a row were.
        failed_metrics: The metrics of that step.
        skipped: How many steps have just been skipped in a row; ``()`` where none ever
            is.
    """

    totals: Metrics
    failed_step: Int[Array, ""]
    failed_metrics: Metrics
    skipped: Int[Array, ""] | tuple[()] = ()


class LoopState(NamedTuple):
    """All of a run in progress: what a checkpoint holds."""

    train: TrainState
    monitor: Monitor


class Report(NamedTuple):
    """What one call returns for the host to look at when it has time."""

    metrics: Metrics
    failed_step: Int[Array, ""]
    failed_metrics: Metrics


Advance = Callable[[LoopState, Array], tuple[LoopState, Report]]


class Stage(NamedTuple):
    """The compiled steps of a stage of training.

    Attributes:
        advance: ``(LoopState, order) -> (LoopState, Report)``, one step; the state is
            donated.
        advance_many: The same for ``steps_per_call`` steps in one dispatch.
        scratch_bytes: ``(LoopState, order) -> int``: the memory that one step takes
            beside its arguments, as XLA plans it. Compiles the step anew.
    """

    advance: Advance
    advance_many: Advance
    scratch_bytes: Callable[[LoopState, Array], int]


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of one experiment.

    A distiller with a pretraining stage has two stages, whose states differ in what is
    trained; both count in the same steps and epochs.

    Attributes:
        start: ``seed -> LoopState`` before the first stage.
        begin_training: ``LoopState -> LoopState``: from the end of pretraining to the
            beginning of training, with a new optimizer state.
        order: ``LoopState -> rows`` in the order of the current epoch.
        training: The steps of training.
        pretraining: The steps of the stage before, if there is one.
        pretraining_epochs: How long that lasts; 0 without.
        evaluate: ``LoopState -> Evaluation`` on the whole test set.
        student: ``LoopState -> nnx.Module``, for use outside.
        steps_per_epoch: Batches in an epoch, the filled-up last one included.
        batch_size: Examples in a batch.
        steps_per_call: Steps that ``advance_many`` takes.
        normalization: What the student's images go through.
    """

    start: Callable[[int], LoopState]
    begin_training: Callable[[LoopState], LoopState]
    order: Callable[[LoopState], Array]
    training: Stage
    pretraining: Stage | None
    pretraining_epochs: int
    evaluate: Callable[[LoopState], Evaluation]
    student: Callable[[LoopState], nnx.Module]
    steps_per_epoch: int
    batch_size: int
    steps_per_call: int
    normalization: Normalization

    @property
    def pretraining_steps(self) -> int:
        """Steps before training proper."""
        return self.pretraining_epochs * self.steps_per_epoch

    def stage(self, step: int) -> Stage:
        """The stage that the step after ``step`` steps belongs to."""
        if self.pretraining is not None and step < self.pretraining_steps:
            return self.pretraining
        return self.training

    def like(self, step: int) -> LoopState:
        """The abstract state after ``step`` steps: what a checkpoint restores to."""
        abstract = jax.eval_shape(self.start, 0)
        if self.pretraining is not None and step >= self.pretraining_steps:
            abstract = jax.eval_shape(self.begin_training, abstract)
        return abstract


def default_steps_per_call() -> int:
    """One on CPU, where XLA runs convolutions inside a loop many times slower."""
    return 1 if jax.default_backend() == "cpu" else 16


def compile_program(
    build: Callable[[nnx.Rngs], nnx.Module],
    dataset: ImageDataset,
    distiller: Distiller,
    *,
    optimizer: optax.GradientTransformation,
    pretraining_optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 64,
    teacher: FrozenNetwork | None = None,
    normalization: Normalization | None = None,
    augmentation: Augmentation | None = None,
    steps_per_call: int | None = None,
    max_skipped: int = 0,
) -> Program:
    """Prepares an experiment: data on the device, functions traced once.

    Args:
        build: Makes the student from its randomness.
        dataset: Training and test images; they are kept on the device.
        distiller: The objective.
        optimizer: Any optax optimizer.
        pretraining_optimizer: Of the distiller's pretraining stage, if it has one; by
            default the same. Each stage begins with a new optimizer state.
        batch_size: Examples per step. The last batch of an epoch is filled up with the
            epoch's first examples.
        teacher: The frozen teacher, if the distiller needs one.
        normalization: Of the student's images; by default the training set's
            statistics.
        augmentation: Of both networks' images; by default the dataset's own.
        steps_per_call: Steps per dispatch; by default 1 on CPU and 16 elsewhere.
        max_skipped: How many steps in a row may be skipped because their loss or the
            state that they would lead to is not finite. By default none, and nothing
            but the loss is looked at.

    Returns:
        The compiled functions, good for any number of seeds.

    Raises:
        ValueError: If the batch is larger than the dataset, or the distiller cannot
            work with these networks and labels.
    """
    check_at_least(0, max_skipped=max_skipped)
    train = dataset.train
    epoch_steps = steps_per_epoch(len(train.labels), batch_size)
    if normalization is None:
        normalization = channel_statistics(train.images)
    if augmentation is None:
        augmentation = dataset.augmentation
    if steps_per_call is None:
        steps_per_call = min(default_steps_per_call(), epoch_steps)
    teacher_variables = None if teacher is None else jax.device_put(teacher.variables)

    module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graphdef = nnx.graphdef(module)
    spec = _make_spec(module, dataset, teacher, normalization, batch_size)
    make_step = functools.partial(
        make_train_step,
        graphdef,
        distiller,
        teacher=teacher,
        normalization=normalization,
        augmentation=augmentation,
    )
    step = first_step = make_step(optimizer)
    first_optimizer, stage = optimizer, distiller.pretraining
    if stage is not None:
        first_optimizer = pretraining_optimizer or optimizer
        first_step = make_step(first_optimizer, pretraining=True)
    if max_skipped:
        step, first_step = skip_nonfinite(step), skip_nonfinite(first_step)
    split = jax.device_put(
        train._replace(images=np.asarray(train.images), labels=train.labels)
    )

    def examples_at(split, order, position) -> Examples:
        rows = batch_rows(order, position, batch_size)
        return Examples(split.images[rows], split.labels[rows], rows)

    def compile_stage(step: TrainStep) -> Stage:
        def advance(loop: LoopState, variables, split, order):
            position = loop.train.step % epoch_steps
            train, metrics = step(
                loop.train, variables, examples_at(split, order, position)
            )
            monitor = _observe(
                loop.monitor, metrics, loop.train.step, position == 0, max_skipped
            )
            report = Report(metrics, monitor.failed_step, monitor.failed_metrics)
            return LoopState(train, monitor), report

        def advance_many(loop: LoopState, variables, split, order):
            def body(loop, _):
                return advance(loop, variables, split, order)

            loop, reports = jax.lax.scan(body, loop, length=steps_per_call)
            return loop, jax.tree.map(lambda x: x[-1], reports)

        one = jax.jit(advance, donate_argnames="loop")
        many = jax.jit(advance_many, donate_argnames="loop")

        def scratch_bytes(loop, order):
            lowered = one.lower(loop, teacher_variables, split, order)
            analysis = lowered.compile().memory_analysis()
            return 0 if analysis is None else analysis.temp_size_in_bytes

        return Stage(
            lambda loop, order: one(loop, teacher_variables, split, order),
            lambda loop, order: many(loop, teacher_variables, split, order),
            scratch_bytes,
        )

    def observed(train: TrainState, step: TrainStep) -> LoopState:
        """A state with nothing seen yet."""
        order = jnp.arange(len(spec.labels))
        _, metrics = jax.eval_shape(
            lambda: step(train, teacher_variables, examples_at(split, order, 0))
        )
        zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
        never, skipped = jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32)
        return LoopState(
            train, Monitor(zeros, never, zeros, skipped if max_skipped else ())
        )

    def start(seed):
        student_key, run_key = jax.random.split(jax.random.key(seed))
        student = build(nnx.Rngs(student_key))
        train = init_train_state(student, distiller, spec, first_optimizer, key=run_key)
        return observed(train, first_step)

    def begin_training(loop):
        train = loop.train
        if stage is not None:
            heads, extra = stage.finish(train.heads, train.extra)
            train = train._replace(heads=heads, extra=extra)
        train = train._replace(opt_state=optimizer.init(trainable(train)))
        return observed(train, step)

    # Initialisation runs once, and optimising its many random draws takes XLA:CPU
    # longer than the first epoch of a small run.
    quick = jax.default_backend() == "cpu"
    compiler_options = {"xla_backend_optimization_level": 0} if quick else None
    start = jax.jit(start, compiler_options=compiler_options)

    @jax.jit
    def order(key, step):
        return epoch_order(key, len(spec.labels), step // epoch_steps)

    frozen = freeze(module, normalization)
    evaluator = make_evaluator(frozen.apply, dataset.test)
    device_normalization = jax.device_put(normalization)

    def variables_of(loop: LoopState) -> dict[str, Any]:
        state = nnx.merge_state(loop.train.student, loop.train.rest)
        return {"state": state, "normalization": device_normalization}

    return Program(
        start=start,
        begin_training=jax.jit(begin_training, compiler_options=compiler_options),
        order=lambda loop: order(loop.train.key, loop.train.step),
        training=compile_stage(step),
        pretraining=None if stage is None else compile_stage(first_step),
        pretraining_epochs=0 if stage is None else stage.epochs,
        evaluate=lambda loop: evaluator(variables_of(loop)),
        student=lambda loop: nnx.merge(
            graphdef, loop.train.student, loop.train.rest, copy=True
        ),
        steps_per_epoch=epoch_steps,
        batch_size=batch_size,
        steps_per_call=steps_per_call,
        normalization=normalization,
    )


def _make_spec(
    module: nnx.Module,
    dataset: ImageDataset,
    teacher: FrozenNetwork | None,
    normalization: Normalization,
    batch_size: int,
) -> Spec:
    """The abstract outputs of both networks; nothing is computed."""
    stored = dataset.train.images
    images = jax.ShapeDtypeStruct((batch_size, *stored.shape[1:]), stored.dtype)

    def student_output(module, images):
        return module(normalize(images, normalization))

    teacher_output = None
    if teacher is not None:
        teacher_output = jax.eval_shape(teacher.apply, teacher.variables, images)
    return Spec(
        student=nnx.eval_shape(student_output, module, images),
        teacher=teacher_output,
        num_classes=dataset.num_classes,
        labels=np.asarray(dataset.train.labels),
        classifier=None if teacher is None else teacher.classifier,
    )


def _observe(
    monitor: Monitor,
    metrics: Metrics,
    step: Array,
    first: Bool[Array, ""],
    max_skipped: int,
) -> Monitor:
    """Adds a step's metrics; remembers the first step whose loss is not finite."""
    seen, skipped = metrics, monitor.skipped
    if max_skipped:  # a skipped step counts as one, and not in the means
        skips = metrics["skipped"] > 0
        seen = {
            name: value if name == "skipped" else jnp.where(skips, 0, value)
            for name, value in metrics.items()
        }
        skipped = jnp.where(skips, jnp.asarray(monitor.skipped) + 1, 0)
    totals = {
        name: jnp.where(first, value, monitor.totals[name] + value)
        for name, value in seen.items()
    }
    fails = monitor.failed_step < 0
    if max_skipped:
        fails &= jnp.asarray(skipped) > max_skipped
    else:
        fails &= ~jnp.isfinite(metrics["loss"])
    return Monitor(
        totals=totals,
        failed_step=jnp.where(fails, step, monitor.failed_step),
        failed_metrics={
            name: jnp.where(fails, value, monitor.failed_metrics[name])
            for name, value in metrics.items()
        },
        skipped=skipped,
    )
