"""The steps of one stage of training: pure functions, and the ways to compile them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxkd.training._devices.batches import Batches, Order
from jaxkd.training._devices.feed import HostBatch
from jaxkd.training._devices.placement import Placement
from jaxkd.training._state import LoopState, Metrics, Monitor, PyTree
from jaxkd.training._step import Lesson
from jaxkd.training._step.step import Learn, Prepare


class Report(NamedTuple):
    """The numbers of one call, for the host to read when it has time.

    With trials, each is an array of one value a trial, or a list of them.
    """

    metrics: Metrics
    failed_step: Any
    failed_metrics: Metrics


class Stage(NamedTuple):
    """The compiled steps of a stage of training.

    Attributes:
        advance: ``(state, order) -> (state, Report)``, one step. The state is that of
            :meth:`Program.spread`; it is donated.
        advance_many: The same for ``steps_per_call`` steps in one dispatch.
    """

    advance: Callable[[Any, Order], tuple[Any, Report]]
    advance_many: Callable[[Any, Order], tuple[Any, Report]]


class Steps(NamedTuple):
    """The steps of a stage as pure functions, to be compiled.

    Attributes:
        prepare: ``(data_key, step, constants, order) -> Lesson``.
        learn: ``(LoopState, Lesson) -> (LoopState, Report)`` for one student.
        constants: The teacher's variables and the training set: arguments of compiled
            functions, so that they are not compiled in.
        steps_per_call: Steps of one ``advance_many``.
        compiler_options: Options of XLA for the student's part, or None.
    """

    prepare: Callable[[Array, Array, PyTree, Any], Lesson]
    learn: Callable[[LoopState, Lesson], tuple[LoopState, Report]]
    constants: PyTree
    steps_per_call: int
    compiler_options: dict[str, str] | None = None


def make_steps(
    prepare: Prepare,
    learn: Learn,
    *,
    teacher_variables: PyTree,
    batches: Batches,
    placement: Placement,
    epoch_steps: int,
    steps_per_call: int,
    max_skipped: int,
) -> Steps:
    """Add to a step its batches, its placement and the monitor.

    Args:
        prepare: The part that all students share.
        learn: The part of one student.
        teacher_variables: The frozen teacher's, on the device.
        batches: The source of batches.
        placement: The devices of the arrays.
        epoch_steps: Batches in an epoch.
        steps_per_call: Steps of one ``advance_many``.
        max_skipped: How many steps in a row may be skipped.
    """

    def learn_and_observe(loop, lesson) -> tuple[LoopState, Report]:
        step = loop.train.step
        train, metrics = learn(loop.train, lesson)
        first = step % epoch_steps == 0
        monitor = _observe(loop.monitor, metrics, step, first, max_skipped)
        report = Report(metrics, monitor.failed_step, monitor.failed_metrics)
        return LoopState(train, monitor), report

    return Steps(
        prepare_batch(prepare, batches, placement),
        placement.within(learn_and_observe),
        (teacher_variables, batches.split),
        steps_per_call,
    )


def prepare_batch(
    prepare: Prepare, batches: Batches, placement: Placement
) -> Callable[[Array, Array, PyTree, Any], Lesson]:
    """Add to the shared part of a step its batches and their placement.

    Returns:
        ``(data_key, step, constants, order) -> Lesson``, as in :class:`Steps`.
    """

    def prepared(data_key, step, constants, order) -> Lesson:
        variables, split = constants
        examples = batches.examples(split, order, step)
        examples = examples._replace(images=placement.over_data(examples.images))
        lesson = prepare(data_key, step, variables, examples)
        return lesson._replace(inputs=placement.over_data(lesson.inputs))

    return placement.within(prepared)


def in_one_call(steps: Steps) -> Stage:
    """Compile a step as one function: one dispatch for lesson and student."""

    def advance(constants, loop, order):
        train = loop.train
        lesson = steps.prepare(train.data_key, train.step, constants, order)
        return steps.learn(loop, lesson)

    def advance_many(constants, loop, order):
        def body(loop, batch):
            return advance(constants, loop, order if batch is None else batch)

        batches = order if isinstance(order, HostBatch) else None
        loop, reports = jax.lax.scan(body, loop, batches, length=steps.steps_per_call)
        return loop, jax.tree.map(lambda x: x[-1], reports)

    options = steps.compiler_options
    one = jax.jit(advance, donate_argnames="loop", compiler_options=options)
    many = jax.jit(advance_many, donate_argnames="loop", compiler_options=options)
    return Stage(
        functools.partial(one, steps.constants),
        functools.partial(many, steps.constants),
    )


def in_two_calls(steps: Steps) -> Stage:
    """Compile a step as two functions: one for the lesson, one for the student."""
    make_lesson, learn = _two_calls(steps)

    def advance(loop, order):
        return learn(loop, make_lesson(loop.train, order))

    return Stage(advance, advance)


def in_turns(steps: Steps) -> Stage:
    """Compile a step as two functions, and call the second for each trial in turn.

    Every trial runs the function that a student alone would run, so it has the same
    bits. That function is compiled once for any number of trials.
    """
    make_lesson, learn = _two_calls(steps)

    def advance(loops, order):
        lesson = make_lesson(loops[0].train, order)
        advanced, reports = zip(*(learn(loop, lesson) for loop in loops), strict=True)
        return advanced, jax.tree.map(lambda *values: list(values), *reports)

    return Stage(advance, advance)


def _two_calls(steps: Steps) -> tuple[Callable[..., Any], Callable[..., Any]]:
    prepare = jax.jit(steps.prepare)
    options = steps.compiler_options
    learn = jax.jit(steps.learn, donate_argnums=0, compiler_options=options)

    def make_lesson(train, order):
        return prepare(train.data_key, train.step, steps.constants, order)

    return make_lesson, learn


def _observe(
    monitor: Monitor,
    metrics: Metrics,
    step: Array,
    first: Bool[Array, ""],
    max_skipped: int,
) -> Monitor:
    """Add a step's metrics, and record the first step whose loss is not finite."""
    seen, skipped = metrics, monitor.skipped
    if max_skipped:  # a skipped step is counted, but not part of the means
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
