"""An experiment compiled once: resident data, the step, evaluation, any seed."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data import (
    Augmentation,
    ImageDataset,
    Normalization,
    Streamed,
    channel_statistics,
    epoch_order,
    normalize,
    steps_per_epoch,
)
from jaxkd.distillers import Distiller, Spec
from jaxkd.training._average import averaging, begin_average, check_decay
from jaxkd.training._evaluate import (
    Evaluation,
    make_evaluator,
    make_trials_evaluator,
)
from jaxkd.training._feeding import Feed, fed
from jaxkd.training._guard import skip_nonfinite
from jaxkd.training._loop_state import (
    TRIAL_AXES,
    LoopState,
    Monitor,
    take,
    unstack,
)
from jaxkd.training._loop_state import stack as stack_trials
from jaxkd.training._networks import FrozenNetwork, check_output, freeze
from jaxkd.training._placement import Placement
from jaxkd.training._processes import meet
from jaxkd.training._program import Program
from jaxkd.training._stages import Stage, compile_stage
from jaxkd.training._step import (
    Examples,
    StepParts,
    TrainState,
    data_key_of,
    init_train_state,
    make_step_parts,
    order_key,
    trainable,
)


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
    fused: bool | None = None,
    trials: int | None = None,
    max_skipped: int = 0,
    ema_decay: float | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Program:
    """Prepares an experiment: data on the device, functions traced once.

    Args:
        build: Makes the student from its randomness.
        dataset: Training and test images; they are kept on the device unless they are
            streamed (:class:`jaxkd.data.Streamed`), with the same results.
        distiller: The objective.
        optimizer: Any optax optimizer.
        pretraining_optimizer: Of the distiller's pretraining stage, if it has one; by
            default the same. Each stage begins with a new optimizer state.
        batch_size: Examples per step. The last batch of an epoch is filled up with the
            epoch's first examples.
        teacher: The frozen teacher, if the distiller needs one
            (:func:`freeze_teacher`).
        normalization: Of the student's images; by default the training set's
            statistics.
        augmentation: Of both networks' images; by default the dataset's own.
        steps_per_call: Steps per dispatch; by default 1 on CPU or if images are
            streamed, 16 elsewhere.
        fused: Whether a step is one compiled function, and trials an axis of it; by
            default so, except for single steps on CPU. There the teacher's pass is a
            function of its own, followed by one call of the student's step for each
            trial: a convolution over several trials' weights is slow on CPU, and trial
            ``i`` has the bits of a run alone.
        trials: How many students to train side by side, from consecutive seeds. They
            see the same images, augmentation included, and share the teacher's pass.
            None is one student, whose state has no axis of trials.
        max_skipped: How many steps in a row may be skipped because their loss or the
            state that they would lead to is not finite. By default none, and nothing
            but the loss is looked at.
        ema_decay: Keeps an exponential moving average of the student with this decay,
            0.999 for instance: it is evaluated beside the student, and is the network
            that checkpoints hand on (:func:`averaged` gives it). By default there is
            none. It begins with the training stage, and waits while steps are skipped.
        mesh: The devices, with axes ``data`` (batches and the rows of banks lie over
            it) and ``trial`` (trials do), or one of them; by default one device. The
            program is the same: statistics, graphs and losses are of the whole batch.

    Returns:
        The compiled functions, good for any number of seeds.

    Raises:
        ValueError: If the batch is larger than the dataset, a network does not return
            what every model must, the mesh does not divide the batch and the trials, or
            a setting is out of range. What the distiller cannot work with, it refuses
            in ``start``.
    """
    _checks.check_at_least(0, max_skipped=max_skipped)
    check_decay(ema_decay)
    train = dataset.train
    train_images = train.images
    epoch_steps = steps_per_epoch(len(train.labels), batch_size)
    if normalization is None:
        normalization = channel_statistics(train.images)
    if augmentation is None:
        augmentation = dataset.augmentation
    if trials is not None:
        _checks.check_at_least(1, trials=trials)
    streamed = isinstance(train_images, Streamed)
    if steps_per_call is None:
        usual = 1 if streamed or fused is False else default_steps_per_call()
        steps_per_call = min(usual, epoch_steps)
    _checks.check_at_least(1, steps_per_call=steps_per_call)
    placement = Placement(mesh, batch_size, trials)
    if placement.mesh is not None:
        meet(placement.mesh)
    if fused is None:
        fused = jax.default_backend() != "cpu" or steps_per_call > 1
        fused |= placement.trial_devices > 1
    if steps_per_call > 1 and not fused:
        raise InvalidInputError(
            "steps_per_call must be 1 where a step is not fused into one function, "
            f"got {steps_per_call}"
        )
    if placement.trial_devices > 1 and not fused:
        raise InvalidInputError(
            "fused must not be False on a mesh with an axis trial: trials in turns do "
            "not lie side by side"
        )
    teacher_variables = None if teacher is None else placement.put(teacher.variables)

    module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    spec = _make_spec(module, dataset, teacher, normalization, batch_size)
    if (remake := distiller.student) is not None:
        given, given_spec = build, spec
        build = lambda rngs: remake(given(rngs), given_spec, rngs)
        module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        spec = _make_spec(module, dataset, teacher, normalization, batch_size)
    graphdef = nnx.graphdef(module)
    make_parts = functools.partial(
        make_step_parts,
        graphdef,
        distiller,
        teacher=teacher,
        normalization=normalization,
        augmentation=augmentation,
    )
    parts = first_parts = averaging(make_parts(optimizer), ema_decay)
    first_optimizer, stage = optimizer, distiller.pretraining
    if stage is not None:
        first_optimizer = pretraining_optimizer or optimizer
        first_parts = make_parts(first_optimizer, pretraining=True)
    if max_skipped:
        parts, first_parts = (
            p._replace(learn=skip_nonfinite(p.learn)) for p in (parts, first_parts)
        )
    stored = None if streamed else np.asarray(train_images)
    split = placement.put(train._replace(images=stored, labels=train.labels))
    make_resident_stage = functools.partial(
        compile_stage,
        variables=teacher_variables,
        split=split,
        batch_size=batch_size,
        epoch_steps=epoch_steps,
        steps_per_call=steps_per_call,
        fused=fused,
        trials=trials,
        placement=placement,
        max_skipped=max_skipped,
    )

    def make_stage(parts: StepParts) -> Stage:
        stage = make_resident_stage(parts)
        return fed(stage, steps_per_call) if streamed else stage

    def observed(train: TrainState, parts: StepParts) -> LoopState:
        """A state with nothing seen yet."""
        shape = batch_size, *train_images.shape[1:]
        images: Any = jax.ShapeDtypeStruct(shape, train_images.dtype)
        labels: Any = jax.ShapeDtypeStruct((batch_size,), split.labels.dtype)
        rows: Any = jax.ShapeDtypeStruct((batch_size,), jnp.int32)

        def first_step(given: Examples):
            lesson = parts.prepare(train.data_key, train.step, teacher_variables, given)
            return parts.learn(train, lesson)

        _, metrics = jax.eval_shape(first_step, Examples(images, labels, rows))
        zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
        never, skipped = jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32)
        return LoopState(
            train, Monitor(zeros, never, zeros, skipped if max_skipped else ())
        )

    def start_one(seed, data_seed):
        student_key, run_key = jax.random.split(jax.random.key(seed))
        train = init_train_state(
            build(nnx.Rngs(student_key)),
            distiller,
            spec,
            first_optimizer,
            key=run_key,
            data_key=data_key_of(jax.random.key(data_seed)),
        )
        if stage is None:
            train = begin_average(train, ema_decay)
        return observed(train, first_parts)

    def begin_one(loop):
        train = loop.train
        if stage is not None:
            heads, extra = stage.finish(train.heads, train.extra)
            train = train._replace(heads=heads, extra=extra)
        train = train._replace(opt_state=optimizer.init(trainable(train)))
        return observed(begin_average(train, ema_decay), parts)

    # Initialisation runs once, and optimising its many random draws takes XLA:CPU
    # longer than the first epoch of a small run.
    quick = jax.default_backend() == "cpu"
    compiler_options = {"xla_backend_optimization_level": 0} if quick else None

    def placed(function: Any, *, stacked: bool) -> Any:
        def wrapped(*given):
            return placement.state(function(*given), stacked=stacked)

        return placement.within(wrapped)

    whole = fused or trials is None  # advance takes the state as it is
    begin_all = begin_one
    if fused and trials is not None:
        begin_all = jax.vmap(
            begin_one,
            in_axes=(TRIAL_AXES,),
            out_axes=TRIAL_AXES,
            spmd_axis_name=placement.vmap_axis,
        )
    start_one, begin_one, begin_all = (
        jax.jit(placed(f, stacked=stacked), compiler_options=compiler_options)
        for f, stacked in (
            (start_one, False),
            (begin_one, False),
            (begin_all, fused and trials is not None),
        )
    )
    stack = jax.jit(placed(stack_trials, stacked=True))

    @jax.jit
    def separate(loop):
        each = unstack(loop, trials)
        return tuple(placement.state(trial, stacked=False) for trial in each)

    def start(seed: int, data_seed: int = 0) -> LoopState:
        if trials is None:
            return start_one(seed, data_seed)
        return stack([start_one(seed + trial, data_seed) for trial in range(trials)])

    def begin_training(loop: LoopState) -> LoopState:
        if whole:
            return begin_all(loop)
        return stack([begin_one(trial) for trial in separate(loop)])

    def like(step: int) -> LoopState:
        abstract = jax.eval_shape(start_one, 0, 0)
        if stage is not None and step >= stage.epochs * epoch_steps:
            abstract = jax.eval_shape(begin_one, abstract)
        if trials is not None:
            abstract = jax.eval_shape(stack, [abstract] * trials)
        return placement.abstract(abstract, stacked=trials is not None)

    def spread(loop: LoopState) -> Any:
        if whole:
            return loop
        each = separate(loop)
        jax.tree.map(lambda leaf: leaf.delete(), loop)
        return each

    @jax.jit
    def order(data_key, epoch):
        rows = epoch_order(order_key(data_key), len(spec.labels), epoch)
        return placement.everywhere(rows)

    @jax.jit
    def order_at(data_key, step):
        return order(data_key, step // epoch_steps)

    feeding = contextlib.nullcontext
    if isinstance(train_images, Streamed):
        feed = Feed(train_images, order, batch_size, placement)
        feeding = lambda: contextlib.closing(feed)
        order_of = lambda loop: feed.at(loop.train.data_key, int(loop.train.step))
    else:
        order_of = lambda loop: order_at(loop.train.data_key, loop.train.step)

    frozen = freeze(module, normalization)
    seen_through, evaluator = (
        normalization,
        make_evaluator(frozen.apply, dataset.test, placement=placement),
    )
    if fused and trials is not None:
        seen_through = jax.tree.map(lambda x: np.stack([x] * trials), normalization)
        evaluator = make_trials_evaluator(
            frozen.apply, dataset.test, trials, placement=placement
        )
    seen_through = placement.put(seen_through)

    def evaluation(loop: LoopState) -> Any:
        state = nnx.merge_state(loop.train.student, loop.train.rest)
        return evaluator({"state": state, "normalization": seen_through})

    def evaluate_trials(loop: LoopState) -> list[Evaluation]:
        if trials is None:
            return [evaluation(loop)]
        if fused:
            return evaluation(loop)
        return [evaluation(take(loop, trial)) for trial in range(trials)]

    def student(loop: LoopState, trial: int = 0) -> nnx.Module:
        train = (loop if trials is None else take(loop, trial)).train
        return nnx.merge(graphdef, train.student, train.rest, copy=True)

    return Program(
        start=start,
        begin_training=begin_training,
        like=like,
        order=order_of,
        spread=spread,
        gather=lambda state: state if whole else stack(state),
        training=make_stage(parts),
        pretraining=None if stage is None else make_stage(first_parts),
        pretraining_epochs=0 if stage is None else stage.epochs,
        evaluate_trials=evaluate_trials,
        student=student,
        steps_per_epoch=epoch_steps,
        batch_size=batch_size,
        steps_per_call=steps_per_call,
        normalization=normalization,
        trials=trials,
        feeding=feeding,
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
        output = module(normalize(images, normalization))
        return check_output(output, f"the student ({type(module).__name__})")

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
