"""The state of a run in progress, for one student or for several trials at once."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int, PRNGKeyArray

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd._text import array_type

PyTree = Any
Metrics = dict[str, Array]


class TrainState(NamedTuple):
    """Everything that training changes, and nothing else.

    Attributes:
        student: The student's parameters.
        heads: The distiller's parameters. The same optimizer trains them.
        rest: The student's other variables: batch statistics, dropout counters.
        extra: The distiller's banks and constants.
        opt_state: The optimizer's state.
        key: The student's own randomness, for example to sample negatives. Every step
            folds its number into this key.
        data_key: The randomness of the data: their order and augmentation. Students
            with the same key see the same images, so they can share one forward pass of
            the teacher.
        step: Number of steps taken.
        average: The student's moving average, or ``()`` if none is kept.
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

    @property
    def trainable(self) -> dict[str, PyTree]:
        """The parameters that the optimizer updates."""
        return {"student": self.student, "heads": self.heads}

    def __repr__(self) -> str:
        counts = {"parameters": self.student, "head_parameters": self.heads}
        sizes = {k: sum(map(jnp.size, jax.tree.leaves(x))) for k, x in counts.items()}
        return _described("TrainState", self, {k: v for k, v in sizes.items() if v})


class Monitor(NamedTuple):
    """Statistics that stay on the device, so that no step waits for the host.

    Attributes:
        totals: Sums of the metrics since the epoch began.
        failed_step: The first step whose loss was not finite, or -1. If such steps are
            skipped, the first step at which too many in a row were skipped.
        failed_metrics: The metrics of that step.
        skipped: How many steps in a row have just been skipped, or ``()`` if steps are
            never skipped.
    """

    totals: Metrics
    failed_step: Int[Array, "*trials"]
    failed_metrics: Metrics
    skipped: Int[Array, "*trials"] | tuple[()] = ()

    def __repr__(self) -> str:
        return f"Monitor(metrics={len(self.totals)})"


class LoopState(NamedTuple):
    """The whole state of a run in progress: the content of a checkpoint.

    With trials, every array has a leading axis of trials, except for the arrays that
    trials share: the step and the randomness of the data.
    """

    train: TrainState
    monitor: Monitor

    def __repr__(self) -> str:
        return _described("LoopState", self.train, {})


def _described(kind: str, train: TrainState, more: dict[str, int]) -> str:
    """Describe a state in a line: its step, and the number of trials if it has them."""
    step = train.step
    known = isinstance(step, jax.Array) and not isinstance(step, Tracer)
    if known and step.is_deleted():
        return f"{kind}(donated: use the state that came back)"
    shown = {"step": int(jax.device_get(step)) if known else array_type(step)}
    if getattr(train.key, "ndim", 0):
        shown["trials"] = train.key.shape[0]
    return f"{kind}({', '.join(f'{k}={v}' for k, v in (shown | more).items())})"


def check_not_donated(loop: LoopState) -> None:
    """Raise if the state's arrays were donated to a step of training.

    Raises:
        InvalidInputError: If an array is deleted.
        InvalidTypeError: If it is not a state.
    """
    if not isinstance(loop, LoopState):
        raise InvalidTypeError(
            "loop must be a state of a run, such as program.start(seed), got "
            f"{type(loop).__name__}",
            argument="loop",
        )
    if any(getattr(x, "is_deleted", bool)() for x in jax.tree.leaves(loop)):
        raise InvalidInputError(
            "loop has been used up: fit donates the arrays of the state it is given. "
            "Use the state that fit returned, as in `loop, history = fit(program, "
            "loop, ...)`, or begin again with program.start(seed).",
            argument="loop",
        )


def data_key_of(key: PRNGKeyArray) -> PRNGKeyArray:
    """Derive the randomness of the data, independent of other uses of the key."""
    return jax.random.fold_in(key, _DATA_STREAM)


def order_key(data_key: PRNGKeyArray) -> PRNGKeyArray:
    """Derive the randomness of the epochs' orders."""
    return jax.random.split(data_key)[0]


def augmentation_key(data_key: PRNGKeyArray, step: Int[Array, ""]) -> PRNGKeyArray:
    """Derive the randomness of one step's augmentation."""
    return jax.random.fold_in(jax.random.split(data_key)[1], step)


# Separates the randomness of the data from all other uses of the same seed.
_DATA_STREAM = 0x64617461


def _trial_axes() -> Any:
    train: Any = dict.fromkeys(TrainState._fields, 0)
    monitor: Any = 0
    return LoopState(TrainState(**{**train, "data_key": None, "step": None}), monitor)


TRIAL_AXES = _trial_axes()
"""The axis of trials in each part of a state, or None for the parts they share."""


def _without_shared(loop: LoopState) -> LoopState:
    """Return the state with None in place of the arrays that trials share."""
    nothing: Any = None
    return loop._replace(train=loop.train._replace(data_key=nothing, step=nothing))


def _with_shared(loop: LoopState, source: LoopState) -> LoopState:
    """Return the state with copies of the shared arrays of another state."""
    shared = jnp.copy(source.train.data_key), jnp.copy(source.train.step)
    return loop._replace(train=loop.train._replace(data_key=shared[0], step=shared[1]))


@jax.jit
def stack(loops: Sequence[LoopState]) -> LoopState:
    """Stack the states of several trials into one state."""
    own = [_without_shared(loop) for loop in loops]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    return _with_shared(stacked, loops[0])


@functools.partial(jax.jit, static_argnames="trial")
def take(loop: LoopState, trial: int) -> LoopState:
    """Take the state of one trial, in new buffers."""
    own = jax.tree.map(lambda leaf: leaf[trial], _without_shared(loop))
    return _with_shared(own, loop)


@functools.partial(jax.jit, static_argnames="trials")
def unstack(loop: LoopState, trials: int) -> tuple[LoopState, ...]:
    """Take the states of all trials, in new buffers."""
    return tuple(take(loop, trial) for trial in range(trials))
