"""All of a run in progress, for one student or for several trials at once."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkd.training._step import Metrics, TrainState


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
    failed_step: Int[Array, "*trials"]
    failed_metrics: Metrics
    skipped: Int[Array, "*trials"] | tuple[()] = ()


class LoopState(NamedTuple):
    """All of a run in progress: what a checkpoint holds.

    With trials, every array has a leading axis of them, but for what they share: the
    step and the randomness of the data.
    """

    train: TrainState
    monitor: Monitor


def _trial_axes() -> Any:
    train: Any = dict.fromkeys(TrainState._fields, 0)
    monitor: Any = 0
    return LoopState(TrainState(**{**train, "data_key": None, "step": None}), monitor)


TRIAL_AXES = _trial_axes()
"""Where the axis of the trials is; None for what they share."""


def _own(loop: LoopState) -> LoopState:
    """What a trial has to itself, with nothing in the place of what all share."""
    nothing: Any = None
    return loop._replace(train=loop.train._replace(data_key=nothing, step=nothing))


def _with_shared(loop: LoopState, source: LoopState) -> LoopState:
    """The same with what all share, copied from another state."""
    shared = jnp.copy(source.train.data_key), jnp.copy(source.train.step)
    return loop._replace(train=loop.train._replace(data_key=shared[0], step=shared[1]))


@jax.jit
def stack(loops: Sequence[LoopState]) -> LoopState:
    """The states of trials as one."""
    own = [_own(loop) for loop in loops]
    whole = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    return _with_shared(whole, loops[0])


@functools.partial(jax.jit, static_argnames="trial")
def take(loop: LoopState, trial: int) -> LoopState:
    """The state of one trial, in buffers of its own."""
    own = jax.tree.map(lambda leaf: leaf[trial], _own(loop))
    return _with_shared(own, loop)


@functools.partial(jax.jit, static_argnames="trials")
def unstack(loop: LoopState, trials: int) -> tuple[LoopState, ...]:
    """The states of all trials, in buffers of their own."""
    return tuple(take(loop, trial) for trial in range(trials))
