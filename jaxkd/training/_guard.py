"""Steps that are not taken when they would spoil the state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxkd.training._step import Metrics, TrainState

PyTree = Any
Step = Callable[..., tuple[TrainState, Metrics]]


def skip_nonfinite(step: Step) -> Step:
    """A step that leaves the state as it was where the result is not finite.

    The update is discarded if the loss, or any number of the new state that was finite
    before, is not: what infinite gradients do to parameters, optimizer, statistics and
    banks alike. All is kept but the number of the step, so that the next one sees other
    examples and other randomness; the optimizer's own count, and with it a schedule,
    waits.

    Args:
        step: As ``make_train_step`` gives it, or the ``learn`` of ``make_step_parts``:
            ``(state, ...) -> (state, metrics)``.

    Returns:
        A step of the same form. Its metrics have ``skipped`` besides, 0 or 1.
    """

    def guarded(state: TrainState, *given: Any) -> tuple[TrainState, Metrics]:
        new, metrics = step(state, *given)
        loss = metrics["loss"]
        good = jnp.isfinite(loss) & _stays_finite(state, new)
        kept = jax.tree.map(lambda old, new: jnp.where(good, new, old), state, new)
        # What trials share stays shared.
        return kept._replace(step=new.step, data_key=new.data_key), {
            **metrics,
            "skipped": jnp.where(good, jnp.zeros_like(loss), jnp.ones_like(loss)),
        }

    return guarded


def _stays_finite(old: PyTree, new: PyTree) -> Bool[Array, ""]:
    """Whether every number that was finite still is; a constant may be infinite."""
    good = jnp.bool_(True)
    for before, after in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        before, after = jnp.asarray(before), jnp.asarray(after)
        if jnp.issubdtype(after.dtype, jnp.inexact):
            good &= jnp.all(jnp.isfinite(after) | ~jnp.isfinite(before))
    return good
