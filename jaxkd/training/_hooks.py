"""Hooks: everything that happens beside the steps of a run, behind one protocol."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxkd._errors import Interrupted
from jaxkd.training._devices.batches import Order
from jaxkd.training._devices.processes import any_of
from jaxkd.training._evaluate import Evaluation
from jaxkd.training._optimizers import check_updated
from jaxkd.training._program import Program
from jaxkd.training._records import Measured, Record, add_to, healthy_metrics
from jaxkd.training._stage import Report, Stage
from jaxkd.training._state import LoopState
from jaxkd.training._step import Average, averaged


class Run:
    """A run in progress, as the loop and its hooks see it.

    Args:
        program: The compiled experiment.
        loop: The state to begin with.
        epochs: Epochs of training.
        history: Records of the epochs before a resume.

    Attributes:
        program: The compiled experiment.
        epochs: Epochs of the whole run, including pretraining.
        step: Number of steps taken.
        records: One record per finished epoch.
        report: The newest step's numbers on the device; None before the first step.
        ended: Whether no further epoch is trained. A hook may set it.
        kept: Returns a description of the last good checkpoint, for error messages.
    """

    def __init__(
        self, program: Program, loop: LoopState, epochs: int, history: Sequence[Record]
    ):
        self.program = program
        self.epochs = program.pretraining_epochs + epochs
        self.step = int(jax.device_get(loop.train.step))
        self.records = list(history)
        self.report: Report | None = None
        self.ended = False
        self.kept: Callable[[], str] = lambda: "no checkpoint"
        self._loop: LoopState | None = loop
        self._spread: Any = None

    @property
    def loop(self) -> LoopState:
        """The state that checkpoints and :meth:`Program.evaluate` take."""
        return self.program.gather(self._spread) if self._loop is None else self._loop

    @property
    def steps_into_epoch(self) -> int:
        """Number of steps taken in the current epoch; 0 at its end."""
        return self.step % self.program.steps_per_epoch

    def begin_epoch(self) -> tuple[Stage, Order]:
        """Return the stage and the order of the epoch, and spread the state."""
        stage, order = self.program.stage(self.step), self.program.order(self.loop)
        self._spread, self._loop = self.program.spread(self.loop), None
        return stage, order

    def take_steps(self, advance: Callable, order: Order, steps: int) -> None:
        """Dispatch one call of a stage."""
        self._spread, self.report = advance(self._spread, order)
        self.step += steps

    def end_epoch(self) -> None:
        """Gather the state."""
        self._loop, self._spread = self.loop, None

    def check_updates(self) -> None:
        """Raise if a stage ends here and its optimizer has made no update."""
        first = self.program.pretraining_steps
        if self.step in (first, self.epochs * self.program.steps_per_epoch):
            steps = self.step if self.step == first else self.step - first
            check_updated(self.loop.train.opt_state, steps)

    def begin_training(self) -> None:
        """Go from pretraining to training."""
        self._loop = self.program.begin_training(self.loop)

    def metrics(self) -> dict[str, float]:
        """Wait for the newest step, and return its metrics.

        Raises:
            DivergenceError: If the loss of a step was not finite.
        """
        assert self.report is not None
        per_epoch = self.program.steps_per_epoch
        return healthy_metrics(self.report, steps_per_epoch=per_epoch, kept=self.kept)


class Hook:
    """Something that happens beside the steps. Methods do nothing unless overridden.

    Several processes call all methods together, and every process must have the same
    hooks. A decision that depends on a clock or a signal must be agreed between them.
    """

    def before_training(self, run: Run) -> None:
        """Run once before the first step, also of a resumed run."""

    def before_step(self, run: Run) -> None:
        """Run before a dispatch. It must not wait for the device."""

    def due(self, run: Run) -> bool:
        """Return whether to call :meth:`on_step` after this dispatch."""
        return False

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        """Run after a dispatch if due; ``metrics`` are those of its last step."""

    def on_epoch(self, run: Run, record: Record) -> None:
        """Run at the end of an epoch, and add to its record."""

    def between_epochs(self, run: Run) -> None:
        """Run when the epoch is recorded and saved, and the next one can start."""


class StopWhenAsked(Hook):
    """Saves the state and ends the run early.

    Args:
        stop: Returns whether to stop; called before each dispatch.
        save: Saves the state.
    """

    def __init__(self, stop: Callable[[], bool], save: Callable[[Run], None]):
        self._stop, self._save = stop, save

    def before_step(self, run: Run) -> None:
        """Raise ``Interrupted`` if asked to stop, once the state is saved."""
        if not any_of(self._stop()):
            return
        if run.report is not None:
            run.metrics()  # a state after a failure must not be saved
        self._save(run)
        raise Interrupted(run.step, f"interrupted after step {run.step}")


class Evaluate(Hook):
    """Evaluates the students, and their averages if they are kept.

    They are evaluated on the test set, and on the validation images if there are any.

    Args:
        every: Epochs of training between evaluations. The last epoch is always
            evaluated, and pretraining never.
    """

    def __init__(self, every: int):
        self._every = every

    def on_epoch(self, run: Run, record: Record) -> None:
        """Add the results to the record."""
        trained = record["epoch"] - run.program.pretraining_epochs
        last = record["epoch"] == run.epochs
        if trained > 0 and (last or trained % self._every == 0):
            add_to(record, _evaluate(run.program, run.loop), run.program.trials)


class CallOnEpoch(Hook):
    """Calls a function with each epoch's record."""

    def __init__(self, function: Callable[[Record], None]):
        self._function = function

    def on_epoch(self, run: Run, record: Record) -> None:
        """Call the function."""
        self._function(record)


def _evaluate(program: Program, loop: LoopState) -> Measured:
    states = {"": loop}
    if isinstance(loop.train.average, Average):
        states["ema_"] = averaged(loop)
    parts = {"test": program.evaluate_trials}
    if program.validates:
        parts["validation"] = program.validate_trials
    measured: Measured = {}
    for prefix, state in states.items():
        for part, evaluate in parts.items():
            measured |= _named(f"{part}/{prefix}", evaluate(state))
    return measured


def _named(prefix: str, evaluations: Sequence[Evaluation]) -> Measured:
    """Return the numbers of each trial by the names of their metrics."""
    top5 = [e.top5_accuracy for e in evaluations if e.top5_accuracy is not None]
    return {
        f"{prefix}accuracy": [e.accuracy for e in evaluations],
        f"{prefix}loss": [e.loss for e in evaluations],
        **({f"{prefix}top5_accuracy": top5} if top5 else {}),
    }
