"""An exponential moving average of the student, kept beside it (EMA)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkd._errors import InvalidInputError
from jaxkd.training._loop_state import LoopState
from jaxkd.training._step import Lesson, Metrics, StepParts, TrainState

PyTree = Any


class Average(NamedTuple):
    """The average of a student over the steps of training.

    Attributes:
        parameters: Of its parameters, in at least float32.
        statistics: Of its other variables. Batch statistics are averaged as parameters
            are: those of the newest weights alone would describe activations that the
            averaged weights do not have. What is no floating-point number (keys and
            counts of dropout) is the student's own.
        updates: How many steps have moved it.
    """

    parameters: PyTree
    statistics: PyTree
    updates: Int[Array, "*trials"]


def check_decay(ema_decay: float | None) -> None:
    """Raises ``ValueError`` unless there is none or it lies in ``(0, 1)``."""
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise InvalidInputError(
            f"ema_decay must lie between 0 and 1, both excluded, got {ema_decay}; "
            "0.999 averages over about the last thousand steps"
        )


def begin_average(train: TrainState, ema_decay: float | None) -> TrainState:
    """The state with an average that is the student as it is now."""
    if ema_decay is None:
        return train
    parameters, statistics = jax.tree.map(_accumulator, (train.student, train.rest))
    average = Average(parameters, statistics, jnp.zeros((), jnp.int32))
    return train._replace(average=average)


def averaging(parts: StepParts, ema_decay: float | None) -> StepParts:
    r"""Steps that move the student's average after they have moved the student.

    .. math::
        \bar\theta \leftarrow d_t \bar\theta + (1 - d_t)\, \theta, \qquad
        d_t = \min\Bigl(d, \frac{1 + t}{10 + t}\Bigr)

    with the decay :math:`d`, after :math:`t = 0, 1, \dots` updates before. So that the
    initial weights are soon forgotten, and a decay too long for a run does no harm, the
    average is at first over about the last tenth of the steps.

    Args:
        parts: A step whose state has an average (:func:`begin_average`).
        ema_decay: The decay, or None for the step as it is.

    References:
        ``tf.train.ExponentialMovingAverage`` of TensorFlow, with ``num_updates``.
    """
    if ema_decay is None:
        return parts
    decay = ema_decay

    def learn(state: TrainState, lesson: Lesson) -> tuple[TrainState, Metrics]:
        new, metrics = parts.learn(state, lesson)
        average: Average = new.average
        parameters, statistics = _towards(
            (average.parameters, average.statistics),
            (new.student, new.rest),
            lambda dtype: _share_of_the_new(average.updates, decay, dtype),
        )
        average = Average(parameters, statistics, average.updates + 1)
        return new._replace(average=average), metrics

    return parts._replace(learn=learn)


def averaged(loop: LoopState) -> LoopState:
    """A state with the average in the student's place.

    For :attr:`Program.evaluate_trials` and :attr:`Program.student`, which know the
    student alone; to go on training, keep the state given.

    Args:
        loop: Of a program with an ``ema_decay``, in its training stage.

    Raises:
        ValueError: If the state has no average.
    """
    train, average = loop.train, loop.train.average
    if not isinstance(average, Average):
        raise InvalidInputError(
            "loop has no average; compile its program with ema_decay, and wait for the "
            "end of a pretraining stage"
        )
    student, rest = jax.tree.map(
        lambda mean, live: (
            mean if mean.dtype == live.dtype else mean.astype(live.dtype)
        ),
        (average.parameters, average.statistics),
        (train.student, train.rest),
    )
    return loop._replace(train=train._replace(student=student, rest=rest, average=()))


def _share_of_the_new(updates: Array, decay: float, dtype: Any) -> Array:
    """One less the decay of this step; so written, not rounded where that is near."""
    real = jnp.finfo(dtype).dtype
    share = jnp.maximum(1.0 - decay, 9.0 / (10.0 + updates.astype(real)))
    return share.astype(dtype)


def _is_averaged(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _accumulator(leaf: Array) -> Array:
    """A copy, wide enough: in bfloat16, a share of 0.001 would move nothing."""
    if _is_averaged(leaf) and jnp.finfo(leaf.dtype).bits < 32:
        return leaf.astype(jnp.float32)
    return jnp.copy(leaf)


def _towards(average: PyTree, newest: PyTree, share: Callable[[Any], Array]) -> PyTree:
    def move(mean: Array, new: Array) -> Array:
        if not _is_averaged(mean):
            return new
        # So written, what does not change stays as it is, bit for bit.
        return mean + share(mean.dtype) * (_widened(new, mean) - mean)

    return jax.tree.map(move, average, newest)


def _widened(new: Array, like: Array) -> Array:
    """The number that is stored: XLA may leave out rounding that is undone at once."""
    if new.dtype == like.dtype:
        return new
    narrow = jnp.finfo(new.dtype)
    return jax.lax.reduce_precision(
        new.astype(like.dtype), exponent_bits=narrow.nexp, mantissa_bits=narrow.nmant
    )
