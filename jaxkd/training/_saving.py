"""When a run is saved, and what may be."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from jaxkd._errors import DivergenceError
from jaxkd.training._checkpoints import Checkpoints
from jaxkd.training._loop_state import LoopState


class Saver:
    """Saves the states of a run, if there is a place to save them to.

    Args:
        checkpoints: The place.
        step: The step of the state that the run starts from: there is no use in saving
            it again.
    """

    def __init__(self, checkpoints: Checkpoints | None, step: int):
        self._checkpoints = checkpoints
        self._step = step
        self._time = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save within an epoch."""
        if self._checkpoints is None:
            return False
        every, minutes = self._checkpoints.every_steps, self._checkpoints.every_minutes
        if every is not None and step // every > self._step // every:
            return True
        return minutes is not None and time.monotonic() - self._time >= 60 * minutes

    def save(self, step: int, loop: LoopState, records: list[dict[str, Any]]) -> None:
        """Saves a state, unless that has happened.

        Raises:
            DivergenceError: If a trained parameter is not finite. The loss of the step
                that made it so was, or nobody would have come here.
        """
        if self._checkpoints is None or step == self._step:
            return
        if not jax.device_get(_all_finite((loop.train.student, loop.train.heads))):
            raise DivergenceError(
                f"a parameter is not finite after step {step}; {self.kept()}. "
                "A lower learning rate often helps",
                step=step,
            )
        self._checkpoints.save(step, loop, {"history": records})
        self._step, self._time = step, time.monotonic()

    def kept(self) -> str:
        """What there is to go back to, in a few words."""
        last = None if self._checkpoints is None else self._checkpoints.latest()
        return "no checkpoint" if last is None else f"last good checkpoint: step {last}"


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    """Whether every floating-point number of a tree is finite."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in floats]))
