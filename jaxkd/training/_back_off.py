"""Going back to the last good state, with a lower learning rate."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxkd import _checks
from jaxkd._errors import DivergenceError, InvalidInputError
from jaxkd.training._checkpoints import Checkpoints
from jaxkd.training._fit import Record, fit
from jaxkd.training._loop_state import LoopState
from jaxkd.training._processes import first_alone
from jaxkd.training._program import Program

PyTree = Any

FACTOR = 0.5


class BackOffState(NamedTuple):
    """The state of an optimizer that can back off.

    Attributes:
        times: How often it has.
        inner: The state of the optimizer within.
    """

    times: Int[Array, ""]
    inner: PyTree


class BackOff(NamedTuple):
    """What is said about going back.

    Attributes:
        failure: Why.
        step: The step that training continues from.
        scale: What the learning rate is multiplied with from there.
    """

    failure: DivergenceError
    step: int
    scale: float


def backing_off(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    r"""An optimizer whose updates can be made smaller while a run goes on.

    .. math::
        \theta \leftarrow \theta + 2^{-n} u

    with the update :math:`u` of the optimizer within. As it comes last, this scales the
    learning rate; momentum and moments go on as they are. The exponent :math:`n` is
    part of the state, so it is checkpointed.

    Args:
        optimizer: Any optax optimizer.

    Returns:
        An optimizer with a :class:`BackOffState`; it begins with :math:`n = 0`.
    """

    def init(params):
        return BackOffState(jnp.zeros((), jnp.int32), optimizer.init(params))

    def update(updates, state, params=None):
        updates, inner = optimizer.update(updates, state.inner, params)
        scale = FACTOR ** state.times.astype(jnp.float32)
        updates = jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)
        return updates, BackOffState(state.times, inner)

    return optax.GradientTransformation(init, update)


def fit_backing_off(
    program: Program,
    loop: LoopState,
    *,
    start: Callable[[], LoopState],
    checkpoints: Checkpoints,
    history: Sequence[Record] = (),
    at_most: int = 5,
    on_back_off: Callable[[BackOff], None] | None = None,
    **settings: Any,
) -> tuple[LoopState, list[Record]]:
    """Trains as :func:`fit` does; where that diverges, goes back and tries again.

    Each time, the last checkpoint before the failure is restored, or the start where
    there is none yet, and training continues with half the learning rate that failed.
    How often that has happened is in the optimizer's state, so a resumed run knows it,
    and in each epoch's record as ``learning_rate_scale``. A second stage begins with
    the full rate.

    Args:
        program: The compiled experiment, with optimizers from :func:`backing_off`.
        loop: The state to begin with; it is donated.
        start: Makes the state before the first step, again.
        checkpoints: Where to save, and to go back to.
        history: Records of the epochs before a resume.
        at_most: How often.
        on_back_off: Told about each time, before training continues.
        **settings: What else :func:`fit` takes.

    Returns:
        As :func:`fit` does.

    Raises:
        DivergenceError: If the loss is not finite even then.
        ValueError: If the optimizer cannot back off, or the program has trials.
    """
    _checks.check_at_least(0, at_most=at_most)
    if program.trials is not None:
        raise InvalidInputError(
            "program must train one student to back off: going back changes the "
            f"learning rate of all its {program.trials} trials"
        )
    records, times, last = list(history), _times(loop), None
    while True:
        try:
            return fit(
                program,
                loop,
                checkpoints=checkpoints,
                history=records,
                notes=lambda loop: {"learning_rate_scale": FACTOR ** _times(loop)},
                **settings,
            )
        except DivergenceError as error:
            if times >= at_most:
                raise DivergenceError(
                    f"{error}. The learning rate has been halved {times} times already",
                    step=error.step,
                ) from error
            failure = error
        # The state whose loss is not finite may have been saved before that was known.
        first_alone(functools.partial(_set_aside, checkpoints, failure.step), failure)
        step = checkpoints.latest()
        if step is None:
            loop, records, step = start(), [], 0
        else:
            loop, record = checkpoints.restore(program.like(step))
            records = record["history"]
        # A newer checkpoint knows how often; from no newer one, only we do.
        times = 1 + (_times(loop) if last is None or step > last else times)
        loop, last = _with_times(loop, times), step
        if on_back_off is not None:
            on_back_off(BackOff(failure, step, FACTOR**times))


def _set_aside(checkpoints: Checkpoints, diverged: int) -> None:
    for step in checkpoints.steps():
        if step >= diverged:
            checkpoints.set_aside(step, "diverged")


def _times(loop: LoopState) -> int:
    state = loop.train.opt_state
    if not isinstance(state, BackOffState):
        raise InvalidInputError(
            "program's optimizer cannot back off; wrap it in training.backing_off "
            "before it is compiled"
        )
    return int(jax.device_get(state.times))


def _with_times(loop: LoopState, times: int) -> LoopState:
    before: Any = loop.train.opt_state
    # The old count times zero: a number that lies where it did.
    opt_state = before._replace(times=before.times * 0 + jnp.int32(times))
    return loop._replace(train=loop.train._replace(opt_state=opt_state))
