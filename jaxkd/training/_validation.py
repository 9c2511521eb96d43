"""Choose epochs by the accuracy on validation images, never by that on the test set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.training._devices.processes import first_alone
from jaxkd.training._hooks import Hook, Run
from jaxkd.training._records import Record
from jaxkd.training._storage.students import StudentCheckpoints

_ACCURACY, _EMA_ACCURACY = "validation/accuracy", "validation/ema_accuracy"


def best_records(history: Sequence[Record]) -> list[Record]:
    """Return the record of each trial's best epoch by validation accuracy.

    The accuracy is that of the network that checkpoints contain: the moving average of
    the trained one, if the run keeps an average. Of equal epochs the first is best.

    Args:
        history: Records of a run, in order.

    Returns:
        One record for each trial; empty if there are no validation accuracies.
    """
    evaluated, table = _evaluated(history)
    # Not strict, because the records of a run folder may be forged.
    best = [int(np.argmax(epochs)) for epochs in zip(*table, strict=False)]
    return [evaluated[each] for each in best]


def _evaluated(history: Sequence[Record]) -> tuple[list[Record], list[list[float]]]:
    """Return the evaluated epochs, and their accuracies of each trial."""
    averaged = any(_EMA_ACCURACY in record for record in history)
    name = _EMA_ACCURACY if averaged else _ACCURACY
    evaluated = [record for record in history if name in record]
    table = [r["trials"][name] if "trials" in r else [r[name]] for r in evaluated]
    return evaluated, table


class EarlyStopping(Hook):
    """Ends a run when the validation accuracy has stopped improving.

    The run ends after ``patience`` evaluations in a row without a new best validation
    accuracy of any trial. The learning-rate schedule is not changed: it is that of the
    whole run, of which only a part is trained. Everything is decided by the records, so
    a resumed run stops where an uninterrupted one does.

    Args:
        patience: Number of evaluations without improvement. With ``evaluate_every=1``,
            these are epochs.

    Raises:
        InvalidInputError: If ``patience`` is less than 1, or, when training begins, if
            the dataset has no validation images.
    """

    def __init__(self, patience: int):
        _checks.check_at_least(1, patience=patience)
        self._patience = patience

    def before_training(self, run: Run) -> None:
        """End a resumed run whose patience is used up."""
        _check_validates(run, "EarlyStopping")
        self.between_epochs(run)

    def between_epochs(self, run: Run) -> None:
        """End the run if its patience is used up."""
        _, table = _evaluated(run.records)
        waited = [
            len(epochs) - 1 - int(np.argmax(epochs))
            for epochs in zip(*table, strict=True)
        ]
        run.ended |= bool(waited) and min(waited) >= self._patience


class KeepBest(Hook):
    """Keeps a checkpoint of the students with the best validation accuracy.

    The checkpoint contains the networks alone. Each trial has its own best epoch: the
    checkpoint holds every student as it was at the end of that epoch. Load it with
    ``Checkpoints(directory).restore_network(network, trial=...)``.

    After a resume, the best epoch so far is that of the records, and checkpoints of
    epochs that are trained again are renamed. So a resumed run keeps the same bits as
    an uninterrupted one.

    Args:
        directory: A folder for these checkpoints, which is not that of the run's own.

    Raises:
        InvalidInputError: When training begins, if the dataset has no validation
            images, or if the checkpoint of a resumed run's best epoch is lost.
    """

    # As many as the run's own checkpoints, and one more: a resumed run may go back to
    # an older checkpoint, and then needs the best epoch before it.
    keep = 3

    def __init__(self, directory: Path):
        self._checkpoints = StudentCheckpoints(directory, keep=self.keep)
        self._kept: list[int] = []

    def before_training(self, run: Run) -> None:
        """Rename checkpoints of later epochs, and save the best epoch if it is here."""
        _check_validates(run, "KeepBest")
        refusal = OSError("the first process could not rename a checkpoint")
        first_alone(lambda: self._checkpoints.set_aside_after(run.step), refusal)
        self._kept = self._checkpoints.best_steps(run.loop)
        self.between_epochs(run)

    def between_epochs(self, run: Run) -> None:
        """Save the students if one of them is better than ever."""
        best = [record["step"] for record in best_records(run.records)]
        if best == self._kept:
            return
        for trial, step in enumerate(best):
            if step != run.step and self._kept[trial : trial + 1] != [step]:
                raise InvalidInputError(
                    f"the checkpoint of the best epoch so far, of step {step}, is "
                    f"missing or damaged in {self._checkpoints.directory}. Copy an "
                    "intact one there, or start the run again in another folder.",
                    argument="directory",
                )
        self._checkpoints.save_best(run.step, run.loop, best)
        self._kept = best


def _check_validates(run: Run, hook: str) -> None:
    if not run.program.validates:
        raise InvalidInputError(
            f"{hook} chooses an epoch by its validation accuracy, but the dataset has "
            "no validation images, and nothing is chosen by the test accuracy. Hold "
            "some of the training images out: data.hold_out(dataset, 0.1).",
            argument="hooks",
        )
