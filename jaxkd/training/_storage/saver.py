"""The hook that saves checkpoints."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxkd._errors import DivergenceError
from jaxkd.training._devices.processes import agreed
from jaxkd.training._hooks import Hook, Run
from jaxkd.training._storage.checkpoints import CheckpointError, Checkpoints


class Saver(Hook):
    """Saves the state after every epoch, and within epochs if the settings say so.

    Checkpoints are written in the background while training continues.

    Args:
        checkpoints: Where to save; None saves nothing.
        step: The step of the state that the run starts from. It is not saved again.
    """

    def __init__(self, checkpoints: Checkpoints | None, step: int):
        self._checkpoints = checkpoints
        self._step = step
        self._time = time.monotonic()

    def before_step(self, run: Run) -> None:
        """Raise the error of a write in the background that has failed."""
        if self._checkpoints is not None:
            self._checkpoints.poll()

    def due(self, run: Run) -> bool:
        """Return whether to save within an epoch."""
        if not run.steps_into_epoch:
            return False
        return bool(agreed(self._wants(run.step)))

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        """Save the state within an epoch."""
        self.save(run)

    def between_epochs(self, run: Run) -> None:
        """Save the state from which the next epoch starts."""
        self.save(run)

    def save(self, run: Run) -> None:
        """Begin to save the state, unless that has been done already.

        Raises:
            CheckpointError: If the save before this one has failed.
            DivergenceError: If a trained parameter is not finite. The loss of the step
                that made it so was finite, or the run would have ended before.
        """
        if self._checkpoints is None or run.step == self._step:
            return
        loop = run.loop
        if not jax.device_get(_all_finite((loop.train.student, loop.train.heads))):
            raise DivergenceError(
                f"a parameter is not finite after step {run.step}; {self.kept()}. "
                "A lower learning rate often helps",
                step=run.step,
            )
        record = {"history": run.records}
        self._checkpoints.save(run.step, loop, record, wait=False)
        self._step, self._time = run.step, time.monotonic()

    def save_and_wait(self, run: Run) -> None:
        """Save the state, and return when it is complete on disk."""
        self.save(run)
        self.wait()

    def wait(self) -> None:
        """Wait for a write in the background, and raise its error."""
        if self._checkpoints is not None:
            self._checkpoints.wait()

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Return a context around training, which ends when everything is written.

        If training fails, a failure to write is added to its error as a note.
        """
        try:
            yield
        except BaseException as error:
            try:
                self.wait()
            except CheckpointError as failure:
                error.add_note(str(failure))
            raise
        self.wait()

    def kept(self) -> str:
        """Wait for a write in the background, and describe the last good checkpoint."""
        if self._checkpoints is None:
            return "no checkpoint"
        failure = ""
        try:
            self._checkpoints.wait()
        except CheckpointError as error:
            failure = f"; {error}"
        last = self._checkpoints.latest()
        kept = "no checkpoint" if last is None else f"last good checkpoint: step {last}"
        return kept + failure

    def _wants(self, step: int) -> bool:
        if self._checkpoints is None:
            return False
        every, minutes = self._checkpoints.every_steps, self._checkpoints.every_minutes
        if every is not None and step // every > self._step // every:
            return True
        return minutes is not None and time.monotonic() - self._time >= 60 * minutes


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    """Return whether every floating-point number of a tree is finite."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in floats]))
