"""Skip updates that would make the state non-finite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxkd.training._state import Metrics, PyTree, TrainState

Step = Callable[..., tuple[TrainState, Metrics]]


def skip_nonfinite(step: Step) -> Step:
    """Wrap a step so that it discards an update whose result is not finite.

    The update is discarded if the loss is not finite, or if any number of the new state
    is not finite although it was before. This covers parameters, optimizer, statistics
    and banks alike. Only the step's number advances, so the next step sees other
    examples and other randomness. The optimizer's own count does not advance, and
    neither does a learning-rate schedule.

    Args:
        step: ``(state, ...) -> (state, metrics)``, for example from
            ``make_train_step``.

    Returns:
        A step of the same form. Its metrics also contain ``skipped``, 0 or 1.
    """

    def guarded(state: TrainState, *given: Any) -> tuple[TrainState, Metrics]:
        new, metrics = step(state, *given)
        loss = metrics["loss"]
        good = jnp.isfinite(loss) & _stays_finite(state, new)
        kept = jax.tree.map(lambda old, new: jnp.where(good, new, old), state, new)
        # Arrays that trials share must stay shared.
        return kept._replace(step=new.step, data_key=new.data_key), {
            **metrics,
            "skipped": jnp.where(good, jnp.zeros_like(loss), jnp.ones_like(loss)),
        }

    return guarded


def _stays_finite(old: PyTree, new: PyTree) -> Bool[Array, ""]:
    """Return whether all finite numbers stay finite; a constant may be infinite."""
    good = jnp.bool_(True)
    for before, after in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        before, after = jnp.asarray(before), jnp.asarray(after)
        if jnp.issubdtype(after.dtype, jnp.inexact):
            good &= jnp.all(jnp.isfinite(after) | ~jnp.isfinite(before))
    return good
