"""Checkpoints of students alone, each as it was at a step of its own."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.training._state import LoopState, PyTree
from jaxkd.training._step import Average
from jaxkd.training._storage.checkpoints import Checkpoints, flattened


class StudentCheckpoints(Checkpoints):
    """A folder of checkpoints that hold the best students, without their run.

    They are read by :meth:`Checkpoints.restore_network`. The record's entry
    ``best_steps`` has the step of each trial's student.
    """

    def save_best(self, step: int, loop: LoopState, best: Sequence[int]) -> None:
        """Write the students of a state, and keep the saved ones of earlier steps.

        Args:
            step: The step of the state.
            loop: The state.
            best: The step of each trial's student. Where it is an earlier step, the
                student is read from the newest checkpoint.

        Raises:
            CheckpointError: If it cannot be written, for example to a full disk.
        """
        students = _students(loop)
        now = np.array([each == step for each in best])
        if not now.all():
            before = self._read({"student": students})["student"]
            students = _choose(now, students, before)
        record = {"best_steps": list(best), "trials": list(loop.train.key.shape)}
        if isinstance(loop.train.average, Average):
            record |= {"averaged": True}
        self._save(step, flattened({"student": students}), record)

    def best_steps(self, like: LoopState) -> list[int]:
        """Return the step of each trial's student; empty if there is no checkpoint.

        Args:
            like: A state of the same experiment.

        Raises:
            InvalidInputError: If the checkpoint belongs to another experiment.
        """
        if self.latest() is None:
            return []
        record = self._read({"student": _students(like)})["record"]
        return record.get("best_steps", [])

    def set_aside_after(self, step: int) -> None:
        """Rename the checkpoints of later steps, which are trained again."""
        for later in self.steps():
            if later > step:
                self.set_aside(later, "dropped")


def _students(loop: LoopState) -> dict[str, PyTree]:
    """Return what a checkpoint of the whole run stores as its ``student``."""
    if isinstance(average := loop.train.average, Average):
        parameters, statistics = average.parameters, average.statistics
    else:
        parameters, statistics = loop.train.student, loop.train.rest
    return {"parameters": parameters, "statistics": statistics}


@jax.jit
def _choose(now: Any, newest: PyTree, before: PyTree) -> PyTree:
    """Take each trial from the one or the other tree."""

    def choose(new, old):
        return jnp.where(now.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, newest, before)
