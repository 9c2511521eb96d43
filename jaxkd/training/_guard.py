"""Steps that are not taken when they would spoil the state."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxkd.training._step import Examples, TrainState, TrainStep

PyTree = Any


def skip_nonfinite(step: TrainStep) -> TrainStep:
    """A step that leaves the state as it was where the result is not finite.

    The update is discarded if the loss, or any number of the new state that was finite
    before, is not: what infinite gradients do to parameters, optimizer, statistics and
    banks alike. All is kept but the number of the step, so that the next one sees other
    examples and other randomness; the optimizer's own count, and with it a schedule,
    waits.

    Args:
        step: As ``make_train_step`` gives it.

    Returns:
        A step of the same form. Its metrics have ``skipped`` besides, 0 or 1.
    """

    def guarded(state: TrainState, teacher_variables: PyTree, examples: Examples):
        new, metrics = step(state, teacher_variables, examples)
        loss = metrics["loss"]
        good = jnp.isfinite(loss) & _stays_finite(state, new)
        kept = jax.tree.map(lambda old, new: jnp.where(good, new, old), state, new)
        return kept._replace(step=new.step), {
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
