"""An exponential moving average (EMA) of the student."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxkd._errors import InvalidInputError
from jaxkd.training._state import LoopState, Metrics, PyTree, TrainState
from jaxkd.training._step.step import Learn, Lesson


class Average(NamedTuple):
    """The average of a student over the steps of training.

    Attributes:
        parameters: The average of its parameters, in at least float32.
        statistics: The average of its other variables. Batch statistics are averaged
            as parameters are: the statistics of the newest weights alone would describe
            activations that the averaged weights do not have. Variables that are not
            floating point (keys and counts of dropout) are copies of the student's.
        updates: The number of steps that have updated the average.
    """

    parameters: PyTree
    statistics: PyTree
    updates: Int[Array, "*trials"]


def check_decay(ema_decay: float | None) -> None:
    """Raise ``ValueError`` unless the decay is None or lies in ``(0, 1)``."""
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise InvalidInputError(
            f"ema_decay must lie between 0 and 1, both excluded, got {ema_decay}. "
            "0.999 averages over about the last thousand steps.",
            argument="ema_decay",
        )


def begin_average(train: TrainState) -> TrainState:
    """Return the state with an average that equals the student."""
    parameters, statistics = jax.tree.map(_accumulator, (train.student, train.rest))
    average = Average(parameters, statistics, jnp.zeros((), jnp.int32))
    return train._replace(average=average)


def with_moving_average(learn: Learn, decay: float) -> Learn:
    r"""Wrap a step so that it also updates the student's average.

    .. math::
        \bar\theta \leftarrow d_t \bar\theta + (1 - d_t)\, \theta, \qquad
        d_t = \min\Bigl(d, \frac{1 + t}{10 + t}\Bigr)

    with the decay :math:`d`, after :math:`t = 0, 1, \dots` previous updates. At first,
    the average is over about the last tenth of the steps. So the initial weights are
    soon forgotten, and a decay that is too long for a run does no harm.

    Args:
        learn: A step whose state has an average (:func:`begin_average`).
        decay: The decay :math:`d`.

    References:
        ``tf.train.ExponentialMovingAverage`` of TensorFlow, with ``num_updates``.
    """

    def averaging(state: TrainState, lesson: Lesson) -> tuple[TrainState, Metrics]:
        new, metrics = learn(state, lesson)
        average: Average = new.average
        parameters, statistics = _towards(
            (average.parameters, average.statistics),
            (new.student, new.rest),
            lambda dtype: _weight_of_newest(average.updates, decay, dtype),
        )
        average = Average(parameters, statistics, average.updates + 1)
        return new._replace(average=average), metrics

    return averaging


def averaged(loop: LoopState) -> LoopState:
    """Return the state with the average in the student's place.

    Use it with :meth:`Program.evaluate_trials` and :meth:`Program.student`, which read
    the student. To continue training, keep the original state.

    Args:
        loop: The state of a program with an ``ema_decay``, in its training stage.

    Raises:
        ValueError: If the state has no average.
    """
    train, average = loop.train, loop.train.average
    if not isinstance(average, Average):
        raise InvalidInputError(
            "loop has no moving average. Compile its program with ema_decay; the "
            "average begins at the end of a pretraining stage.",
            argument="loop",
        )
    student, rest = jax.tree.map(
        lambda mean, live: (
            mean if mean.dtype == live.dtype else mean.astype(live.dtype)
        ),
        (average.parameters, average.statistics),
        (train.student, train.rest),
    )
    return loop._replace(train=train._replace(student=student, rest=rest, average=()))


def _weight_of_newest(updates: Array, decay: float, dtype: Any) -> Array:
    """Return one minus this step's decay, without rounding for decays close to 1."""
    real = jnp.finfo(dtype).dtype
    share = jnp.maximum(1.0 - decay, 9.0 / (10.0 + updates.astype(real)))
    return share.astype(dtype)


def _is_averaged(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _accumulator(leaf: Array) -> Array:
    """Copy a leaf, in at least float32: bfloat16 would round small updates away."""
    if _is_averaged(leaf) and jnp.finfo(leaf.dtype).bits < 32:
        return leaf.astype(jnp.float32)
    return jnp.copy(leaf)


def _towards(average: PyTree, newest: PyTree, weight: Callable[[Any], Array]) -> PyTree:
    """Move the average towards the newest values."""

    def move(mean: Array, new: Array) -> Array:
        if not _is_averaged(mean):
            return new
        # In this form, a value that does not change keeps its bits.
        return mean + weight(mean.dtype) * (_widened(new, mean) - mean)

    return jax.tree.map(move, average, newest)


def _widened(new: Array, like: Array) -> Array:
    """Widen the stored number. XLA may remove a rounding that is undone at once."""
    if new.dtype == like.dtype:
        return new
    narrow = jnp.finfo(new.dtype)
    return jax.lax.reduce_precision(
        new.astype(like.dtype), exponent_bits=narrow.nexp, mantissa_bits=narrow.nmant
    )
