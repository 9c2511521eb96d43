"""One stage of training, compiled: for one student, or for several trials at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxkd.data import Split, batch_rows
from jaxkd.training._feeding import HostBatch, Order
from jaxkd.training._loop_state import TRIAL_AXES, LoopState, Monitor
from jaxkd.training._placement import Placement
from jaxkd.training._step import Examples, Lesson, Metrics, StepParts, TrainState

PyTree = Any


class Report(NamedTuple):
    """What one call returns for the host to look at when it has time.

    With trials, each is an array of one value a trial, or a list of them.
    """

    metrics: Metrics
    failed_step: Any
    failed_metrics: Metrics


Advance = Callable[[Any, Order], tuple[Any, Report]]


class Stage(NamedTuple):
    """The compiled steps of a stage of training.

    Attributes:
        advance: ``(LoopState, order) -> (LoopState, Report)``, one step; the state is
            donated. With trials, the state is what :attr:`Program.spread` gives.
        advance_many: The same for ``steps_per_call`` steps in one dispatch.
        scratch_bytes: ``(LoopState, order) -> int``: the memory that one step takes
            beside its arguments, as XLA plans it. Compiles the step anew.
    """

    advance: Advance
    advance_many: Advance
    scratch_bytes: Callable[[Any, Order], int]


def compile_stage(
    parts: StepParts,
    variables: PyTree,
    split: Split,
    *,
    batch_size: int,
    epoch_steps: int,
    steps_per_call: int,
    fused: bool,
    trials: int | None,
    placement: Placement,
    max_skipped: int = 0,
) -> Stage:
    """Compiles the steps of a stage.

    Args:
        parts: The step.
        variables: The teacher's.
        split: The training set, on the device.
        batch_size: Examples in a batch.
        epoch_steps: Batches in an epoch.
        steps_per_call: Steps that ``advance_many`` takes.
        fused: Whether a step is one compiled function, over all trials by
            ``jax.vmap``, or two: one makes the lesson, the other is called for each
            trial in turn.
        trials: How many trials there are, or None for one student without that axis.
        placement: Where the arrays lie.
        max_skipped: How many steps in a row may be skipped.

    Returns:
        The stage.
    """

    def prepare(data_key, step, variables, split, order) -> Lesson:
        if isinstance(order, HostBatch):
            images, rows = order
        else:
            rows = batch_rows(order, step % epoch_steps, batch_size)
            images = split.images[rows]
        images = placement.over_data(images)
        examples = Examples(images, split.labels[rows], rows)
        lesson = parts.prepare(data_key, step, variables, examples)
        return lesson._replace(inputs=placement.over_data(lesson.inputs))

    def learn(loop: LoopState, lesson: Lesson) -> tuple[LoopState, Report]:
        step = loop.train.step
        train, metrics = parts.learn(loop.train, lesson)
        first = step % epoch_steps == 0
        monitor = _observe(loop.monitor, metrics, step, first, max_skipped)
        report = Report(metrics, monitor.failed_step, monitor.failed_metrics)
        return LoopState(train, monitor), report

    build = _fused if fused else _in_turns
    return build(
        placement.within(prepare),
        placement.within(learn),
        variables,
        split,
        steps_per_call,
        trials,
        placement,
    )


def _fused(
    prepare,
    learn,
    variables,
    split,
    steps_per_call: int,
    trials: int | None,
    placement: Placement,
) -> Stage:
    """Everything in one compiled function: no dispatch but one."""
    learn_all = learn
    if trials is not None:
        axes = (TRIAL_AXES, None)
        learn_all = jax.vmap(
            learn,
            in_axes=axes,
            out_axes=(TRIAL_AXES, 0),
            spmd_axis_name=placement.vmap_axis,
        )

    def advance(loop, variables, split, order):
        train = loop.train
        lesson = prepare(train.data_key, train.step, variables, split, order)
        loop, report = learn_all(loop, lesson)
        loop = placement.state(loop, stacked=trials is not None)
        return loop, placement.everywhere(report)

    def advance_many(loop, variables, split, order):
        def body(loop, batch):
            given = order if batch is None else batch
            return advance(loop, variables, split, given)

        batches = order if isinstance(order, HostBatch) else None
        loop, reports = jax.lax.scan(body, loop, batches, length=steps_per_call)
        return loop, jax.tree.map(lambda x: x[-1], reports)

    one = jax.jit(advance, donate_argnames="loop")
    many = jax.jit(advance_many, donate_argnames="loop")
    return Stage(
        lambda loop, order: one(loop, variables, split, order),
        lambda loop, order: many(loop, variables, split, order),
        lambda loop, order: _scratch(one, loop, variables, split, order),
    )


def _in_turns(
    prepare,
    learn,
    variables,
    split,
    steps_per_call: int,
    trials: int | None,
    placement: Placement,
) -> Stage:
    """The lesson by one compiled function, each student's step by another.

    All trials are steps of the very function that a student alone takes, so that a
    trial is that student, bit for bit; and it is compiled once, however many they are.
    """
    make_lesson = jax.jit(prepare)

    def learn_one(loop, lesson):
        loop, report = learn(loop, lesson)
        return placement.state(loop, stacked=False), placement.everywhere(report)

    one = jax.jit(learn_one, donate_argnames="loop")

    def lesson_of(train: TrainState, order: Array | HostBatch) -> Lesson:
        return make_lesson(train.data_key, train.step, variables, split, order)

    def advance(loop, order):
        if trials is None:
            return one(loop, lesson_of(loop.train, order))
        lesson = lesson_of(loop[0].train, order)
        stepped = [one(trial, lesson) for trial in loop]
        reports = [report for _, report in stepped]
        return (
            tuple(trial for trial, _ in stepped),
            jax.tree.map(lambda *values: list(values), *reports),
        )

    def advance_many(loop, order):
        for _ in range(steps_per_call - 1):
            loop, _ = advance(loop, order)
        return advance(loop, order)

    def scratch_bytes(loop, order):
        first = loop if trials is None else loop[0]
        train = first.train
        data = train.data_key, train.step, variables, split, order
        lesson = jax.eval_shape(make_lesson, *data)
        return max(_scratch(make_lesson, *data), _scratch(one, first, lesson))

    return Stage(advance, advance_many, scratch_bytes)


def _scratch(compiled: Any, *arguments: Any) -> int:
    analysis = compiled.lower(*arguments).compile().memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes


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
