"""Back off: return to the last good state with a lower learning rate."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxkd import _checks
from jaxkd._errors import DivergenceError, InvalidInputError
from jaxkd.training._devices.processes import first_alone
from jaxkd.training._fit import fit
from jaxkd.training._history import History
from jaxkd.training._hooks import Hook, Run
from jaxkd.training._optimizers import rated_like
from jaxkd.training._program import Program
from jaxkd.training._records import Record
from jaxkd.training._state import LoopState, PyTree
from jaxkd.training._storage.checkpoints import Checkpoints

FACTOR = 0.5


class BackOffState(NamedTuple):
    """The state of an optimizer that can back off.

    Attributes:
        times: How often it has backed off.
        inner: The state of the wrapped optimizer.
    """

    times: Int[Array, ""]
    inner: PyTree


class BackOff(NamedTuple):
    """A report that training backs off.

    Attributes:
        failure: The failure that caused it.
        step: The step from which training continues.
        scale: The factor of the learning rate from there on.
    """

    failure: DivergenceError
    step: int
    scale: float


def backing_off(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    r"""Wrap an optimizer so that its updates can be scaled down during a run.

    .. math::
        \theta \leftarrow \theta + 2^{-n} u

    with the update :math:`u` of the wrapped optimizer. As the scaling comes last, it
    acts on the learning rate and does not change momentum and moments. The exponent
    :math:`n` is part of the state, so it is checkpointed.

    Args:
        optimizer: An optax optimizer.

    Returns:
        An optimizer with a :class:`BackOffState`, which begins with :math:`n = 0`.
    """

    def init(params):
        return BackOffState(jnp.zeros((), jnp.int32), optimizer.init(params))

    def update(updates, state, params=None):
        updates, inner = optimizer.update(updates, state.inner, params)
        scale = _scale(state)
        updates = jax.tree.map(lambda u: u * scale.astype(u.dtype), updates)
        return updates, BackOffState(state.times, inner)

    return rated_like(
        optax.GradientTransformation(init, update),
        optimizer,
        lambda state, rate: rate(state.inner) * _scale(state),
    )


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
) -> tuple[LoopState, History]:
    """Train like :func:`fit`; if the loss diverges, go back and try again.

    Each time, the last checkpoint before the failure is restored, or the start if there
    is none yet. Training continues with half the learning rate that failed. The
    optimizer's state counts how often this has happened, so a resumed run knows it, and
    each epoch's record holds the factor as ``learning_rate_scale``. A training stage
    after pretraining begins with the full rate.

    Args:
        program: The compiled experiment, with optimizers from :func:`backing_off`.
        loop: The state to begin with. It is donated.
        start: Returns the state before the first step again.
        checkpoints: Where to save, and the checkpoints to go back to.
        history: Records of the epochs before a resume.
        at_most: How often to back off at most.
        on_back_off: Called each time before training continues.
        **settings: The other arguments of :func:`fit`.

    Returns:
        The final state and the records, as from :func:`fit`.

    Raises:
        DivergenceError: If the loss is not finite after backing off ``at_most`` times.
        ValueError: If the optimizer cannot back off, or the program has trials.
    """
    _checks.check_at_least(0, at_most=at_most)
    if program.trials is not None:
        raise InvalidInputError(
            f"program has {program.trials} trials, and backing off would change the "
            "learning rate of all of them. Compile it with trials=None to back off.",
            argument="program",
        )
    settings["hooks"] = [*settings.get("hooks", ()), _RecordScale()]
    records, times, last = list(history), _times(loop), None
    while True:
        try:
            return fit(
                program,
                loop,
                checkpoints=checkpoints,
                history=records,
                **settings,
            )
        except DivergenceError as error:
            if times >= at_most:
                raise DivergenceError(
                    f"{error}. The learning rate has been halved {times} times already",
                    step=error.step,
                ) from error
            failure = error
        # The state that led to the failure may have been saved before it was known.
        first_alone(functools.partial(_set_aside, checkpoints, failure.step), failure)
        step = checkpoints.latest()
        if step is None:
            loop, records, step = start(), [], 0
        else:
            loop, record = checkpoints.restore(program.like(step))
            records = record["history"]
        # A checkpoint newer than the last one used holds the count; otherwise it is
        # only in this variable.
        times = 1 + (_times(loop) if last is None or step > last else times)
        loop, last = _with_times(loop, times), step
        if on_back_off is not None:
            on_back_off(BackOff(failure, step, FACTOR**times))


class _RecordScale(Hook):
    """Adds the factor of the learning rate to each epoch's record."""

    def on_epoch(self, run: Run, record: Record) -> None:
        record["learning_rate_scale"] = FACTOR ** _times(run.loop)


def _scale(state: BackOffState) -> jax.Array:
    return FACTOR ** state.times.astype(jnp.float32)


def _set_aside(checkpoints: Checkpoints, diverged: int) -> None:
    for step in checkpoints.steps():
        if step >= diverged:
            checkpoints.set_aside(step, "diverged")


def _times(loop: LoopState) -> int:
    state = loop.train.opt_state
    if not isinstance(state, BackOffState):
        raise InvalidInputError(
            "program has an optimizer that cannot back off. Wrap it in "
            "training.backing_off before you compile the program.",
            argument="program",
        )
    return int(jax.device_get(state.times))


def _with_times(loop: LoopState, times: int) -> LoopState:
    before: Any = loop.train.opt_state
    # The old count times zero keeps the placement of the array.
    opt_state = before._replace(times=before.times * 0 + jnp.int32(times))
    return loop._replace(train=loop.train._replace(opt_state=opt_state))
