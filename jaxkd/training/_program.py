"""The compiled functions of one experiment."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxkd.data import Normalization
from jaxkd.training._evaluate import Evaluation
from jaxkd.training._feeding import Order
from jaxkd.training._loop_state import LoopState
from jaxkd.training._stages import Stage


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of one experiment.

    A distiller with a pretraining stage has two stages, whose states differ in what is
    trained; both count in the same steps and epochs.

    Attributes:
        start: ``(seed, data_seed=0) -> LoopState`` before the first stage. Trial ``i``
            has the seed ``seed + i``; the data seed is that of all.
        begin_training: ``LoopState -> LoopState``: from the end of pretraining to the
            beginning of training, with a new optimizer state.
        like: ``steps taken -> LoopState`` of abstract arrays: what a checkpoint
            restores to.
        order: ``LoopState -> rows`` in the order of the current epoch.
        spread: ``LoopState ->`` what ``advance`` takes: the same, unless trials are
            trained in turns; then the state given is deleted.
        gather: Its inverse; what it is given can be used on.
        training: The steps of training.
        pretraining: The steps of the stage before, if there is one.
        pretraining_epochs: How long that lasts; 0 without.
        evaluate_trials: ``LoopState -> [Evaluation, ...]`` on the whole test set, one
            for each trial; one without trials.
        student: ``(LoopState, trial=0) -> nnx.Module``, for use outside. This and the
            evaluation are of the student that is trained; of its moving average, if one
            is kept, with :func:`averaged` of the state.
        steps_per_epoch: Batches in an epoch, the filled-up last one included.
        batch_size: Examples in a batch.
        steps_per_call: Steps that ``advance_many`` takes.
        normalization: What the student's images go through.
        trials: How many students are trained; None for one, whose state has no such
            axis.
        feeding: Makes a context around training: at its end, workers that read
            streamed images are stopped.
    """

    start: Callable[..., LoopState]
    begin_training: Callable[[LoopState], LoopState]
    like: Callable[[int], LoopState]
    order: Callable[[LoopState], Order]
    spread: Callable[[LoopState], Any]
    gather: Callable[[Any], LoopState]
    training: Stage
    pretraining: Stage | None
    pretraining_epochs: int
    evaluate_trials: Callable[[LoopState], list[Evaluation]]
    student: Callable[..., nnx.Module]
    steps_per_epoch: int
    batch_size: int
    steps_per_call: int
    normalization: Normalization
    trials: int | None
    feeding: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def evaluate(self, loop: LoopState) -> Evaluation:
        """Evaluates the student, or that of the first trial, on the whole test set."""
        return self.evaluate_trials(loop)[0]

    @property
    def pretraining_steps(self) -> int:
        """Steps before training proper."""
        return self.pretraining_epochs * self.steps_per_epoch

    def stage(self, step: int) -> Stage:
        """The stage that the step after ``step`` steps belongs to."""
        if self.pretraining is not None and step < self.pretraining_steps:
            return self.pretraining
        return self.training
