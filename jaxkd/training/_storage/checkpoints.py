"""Checkpoints of the whole run, written by Orbax."""

import copy
import functools
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.training._devices.processes import first_alone, is_first
from jaxkd.training._state import LoopState, PyTree
from jaxkd.training._step import Average
from jaxkd.training._storage import arrays as state_arrays
from jaxkd.training._storage import checksums, files, items
from jaxkd.training._storage.background import BackgroundWriter, snapshot

_UNFINISHED = "unfinished"


class CheckpointError(OSError):
    """A checkpoint could not be written; the finished ones are untouched."""


class Damage(NamedTuple):
    """A finished checkpoint whose files have changed since it was written.

    Attributes:
        step: The step of the checkpoint.
        reason: A short description of the damage.
    """

    step: int
    reason: str


class Checkpoints:
    """A folder of finished checkpoints.

    A checkpoint holds two sets of arrays and a JSON record, so that a network can be
    loaded without the run that trained it. ``student`` holds parameters and batch
    statistics. ``training`` holds heads, banks, optimizer, step, randomness and the
    epoch's sums; it is absent if a network was saved alone. If a moving average of the
    student is kept, ``student`` holds the average, and ``training`` the student that is
    trained.

    Orbax writes a checkpoint into a folder for unfinished ones. The checksums of all
    files are added there, and then the whole is renamed. So a folder with a step's name
    was complete once, and its checksums tell whether it still is. Damaged checkpoints
    are not used, and are renamed rather than replaced. The first checkpoint that an
    object writes is read back and compared bit for bit.

    A checkpoint can be written in the background, from a copy of the state. At most one
    is: the next save waits for it. Other methods do not, and see only finished
    checkpoints; call :meth:`wait` before them.

    Args:
        directory: The folder, created by the first save.
        keep: How many of the newest checkpoints to keep.
        every_steps: Also save within epochs, whenever the step passes a multiple.
        every_minutes: Also save within epochs, if this many minutes have passed since
            the last save.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 2,
        every_steps: int | None = None,
        every_minutes: float | None = None,
    ):
        _checks.check_at_least(1, keep=keep)
        if every_steps is not None:
            _checks.check_at_least(1, every_steps=every_steps)
        if every_minutes is not None:
            _checks.check_positive(every_minutes=every_minutes)
        self.directory = Path(directory).absolute()
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self._keep = keep
        self._verified = False
        self._writer = BackgroundWriter()

    def steps(self) -> list[int]:
        """Return the steps of all finished checkpoints in order, even damaged ones."""
        if not self.directory.is_dir():
            return []
        return sorted(
            int(p.name) for p in self.directory.iterdir() if files.is_step(p.name)
        )

    def has_any(self) -> bool:
        """Return whether there is a checkpoint, also one that has been set aside."""
        if not self.directory.is_dir():
            return False
        return any(path.name != _UNFINISHED for path in self.directory.iterdir())

    def latest(self) -> int | None:
        """Return the step of the newest intact checkpoint, or None."""
        for step in reversed(self.steps()):
            if checksums.damage(self.directory / str(step)) is None:
                return step
        return None

    def damaged(self) -> list[Damage]:
        """Return damaged checkpoints newer than :meth:`latest`, the newest first."""
        found = []
        for step in reversed(self.steps()):
            reason = checksums.damage(self.directory / str(step))
            if reason is None:
                break
            found.append(Damage(step, reason))
        return found

    def set_aside(self, step: int, why: str = "damaged") -> Path:
        """Rename a checkpoint so that it is not used and its step can be saved again.

        Returns:
            Its new name: ``<step>.<why>``, with a number if that name is taken.
        """
        target, number = self.directory / f"{step}.{why}", 2
        while target.exists():
            target, number = self.directory / f"{step}.{why}-{number}", number + 1
        return (self.directory / str(step)).rename(target)

    def save(
        self, step: int, loop: LoopState, record: dict[str, Any], *, wait: bool = True
    ) -> None:
        """Write a checkpoint.

        Args:
            step: The step of the state.
            loop: The state.
            record: A JSON record to store with it.
            wait: Whether to return only when it is complete on disk. If False, this
                method copies the state and returns, and a thread writes the copy;
                :meth:`wait` or :meth:`poll` must be called later. Several processes
                always wait, because they write a checkpoint together.

        Raises:
            CheckpointError: If this checkpoint, or the one being written in the
                background, cannot be written, for example to a full disk.
        """
        self.wait()
        record = {**record, "trials": list(loop.train.key.shape)}
        if isinstance(loop.train.average, Average):
            record["averaged"] = True
        arrays = flattened(_parts(loop))
        if wait or jax.process_count() > 1:
            self._save(step, arrays, record)
            return
        # The caller may add to the record and donate the state before it is written.
        arrays, record = snapshot(arrays), copy.deepcopy(record)
        self._writer.start(functools.partial(self._save, step, arrays, record))

    def wait(self) -> None:
        """Wait for the checkpoint that is being written in the background, if any.

        Raises:
            CheckpointError: If it could not be written. The error is raised once.
        """
        self._writer.wait()

    def poll(self) -> None:
        """Raise the error of a write in the background, if it has failed by now.

        Raises:
            CheckpointError: If it could not be written. The error is raised once.
        """
        self._writer.poll()

    def save_network(
        self, network: nnx.Module, record: dict[str, Any], *, step: int = 0
    ) -> None:
        """Write a network alone, for :meth:`restore_network`.

        A run cannot be resumed from it: it has no optimizer, heads or banks.

        Raises:
            CheckpointError: If it cannot be written, for example to a full disk.
        """
        self.wait()
        self._save(step, flattened({"student": _variables(network)}), record)

    def _save(
        self, step: int, arrays: dict[str, items.Arrays], record: dict[str, Any]
    ) -> None:
        unfinished = self.directory / _UNFINISHED
        written = unfinished / str(step)

        def begin():
            shutil.rmtree(unfinished, ignore_errors=True)  # left by a kill
            unfinished.mkdir(parents=True)

        def complete():
            checksums.write(written)
            self._finish(step, written)

        refusal = OSError("the first process could not write")
        try:
            first_alone(begin, refusal)
            items.write(written, arrays, record)
            if not self._verified:
                items.check_written(written, arrays)
            first_alone(complete, refusal)
            self._verified = True
        # Orbax and TensorStore raise any of these, depending on where the write fails.
        except (OSError, ValueError, RuntimeError) as error:
            if is_first():
                files.remove(unfinished)
            last = self.latest()
            kept = "there is no older one" if last is None else f"step {last} is kept"
            raise CheckpointError(
                f"could not write the checkpoint of step {step} to {self.directory} "
                f"({files.reason(error)}); {kept}"
            ) from error
        if is_first():
            shutil.rmtree(unfinished, ignore_errors=True)

    def _finish(self, step: int, written: Path) -> None:
        """Rename a complete checkpoint to its step, and remove those not to keep."""
        final = self.directory / str(step)
        for later in self.steps():
            if later >= step and checksums.damage(self.directory / str(later)):
                self.set_aside(later)
        if final.exists():
            final.rename(written.with_name("replaced"))
        written.rename(final)
        for old in self.steps()[: -self._keep]:
            # A kill during the deletion must not leave a partial folder with its name.
            (self.directory / str(old)).rename(written.with_name(f"{old}.old"))

    def restore(self, like: LoopState) -> tuple[LoopState, dict[str, Any]]:
        """Read the newest intact checkpoint.

        Args:
            like: A state of the same experiment, which gives structure, shapes, dtypes
                and shardings. The devices may differ from those that wrote it.

        Returns:
            The saved state, bit for bit, and its record. The sum of the learning rate
            is NaN if an older version wrote the checkpoint, which did not record it.

        Raises:
            ValueError: If there is no intact checkpoint, or it belongs to another
                experiment.
        """
        found = self._read(_parts(like))
        train, monitor = found["training"]
        parameters, statistics = found["student"].values()
        if isinstance(average := train.average, Average):
            average = average._replace(parameters=parameters, statistics=statistics)
            train = train._replace(average=average)
        else:
            train = train._replace(student=parameters, rest=statistics)
        return LoopState(train, monitor), found["record"]

    def restore_network(self, network: nnx.Module, *, trial: int = 0) -> dict[str, Any]:
        """Load the newest student's variables into a network of its architecture.

        Args:
            network: Updated in place. It may be abstract (``nnx.eval_shape``).
            trial: Number of the student, in a run of several.

        Returns:
            The checkpoint's record. It contains ``averaged: true`` if this is the
            student's moving average, in the network's own dtypes.

        Raises:
            ValueError: If there is no intact checkpoint, it belongs to another
                architecture, or it has no such trial.
        """
        _checks.check_at_least(0, trial=trial)
        found = self._read({"student": _variables(network)}, trial=trial)
        nnx.update(network, *found["student"].values())
        return found["record"]

    def _read(
        self, like: dict[str, PyTree], *, trial: int | None = None
    ) -> dict[str, Any]:
        step = self.latest()
        if step is None:
            self.refuse_damaged()
            raise InvalidInputError(
                f"no finished checkpoint in {self.directory}", argument="directory"
            )
        abstract = {name: state_arrays.abstract(tree) for name, tree in like.items()}
        folder = self.directory / str(step)
        try:
            record = items.read_record(folder)
            stored, trials = record.pop("arrays"), record.pop("trials", [])
            if trial is not None:
                abstract = state_arrays.of_all_trials(abstract, trials, trial)
            unrecorded = state_arrays.take_unrecorded(abstract, stored)
            for name, wanted in abstract.items():
                state_arrays.check_shapes(
                    name,
                    stored.get(name, {}),
                    state_arrays.shapes(wanted),
                    state_arrays.bank_names(like[name]),
                )
            found = items.read_arrays(folder, abstract)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"the checkpoint of step {step} in {self.directory} {error}",
                argument=error.argument,
            ) from None
        # The files have the checksums of what was written, but anybody can compute
        # them: Orbax and TensorStore may raise anything for files of other contents.
        except Exception as error:
            raise InvalidInputError(
                f"cannot read the checkpoint of step {step} in {self.directory} "
                f"({files.reason(error)}). Rename its folder to use an older one.",
                argument="directory",
            ) from error
        if trial is not None and trials:
            found = {k: {n: x[trial] for n, x in found[k].items()} for k in like}
        result = {
            name: state_arrays.unflatten({**found[name], **unrecorded[name]}, tree)
            for name, tree in like.items()
        }
        return {**result, "record": record}

    def refuse_damaged(self) -> None:
        """Raise an error if there are checkpoints but none is intact.

        Raises:
            ValueError: If every checkpoint is damaged.
        """
        damaged = self.damaged()
        if not damaged or len(damaged) < len(self.steps()):
            return
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged)
        raise InvalidInputError(
            f"every checkpoint in {self.directory} is damaged ({reasons}). Copy an "
            "intact one there, or start the run again in another folder.",
            argument="directory",
        )


def _parts(loop: LoopState) -> dict[str, PyTree]:
    """Split a state into the network to load later and the rest of the run."""
    train = loop.train
    if isinstance(average := train.average, Average):
        parameters, statistics, _ = average
        average = average._replace(parameters=(), statistics=())
        train = train._replace(average=average)
    else:
        parameters, statistics = train.student, train.rest
        train = train._replace(student=(), rest=())
    return {
        "student": {"parameters": parameters, "statistics": statistics},
        "training": (train, loop.monitor),
    }


def flattened(parts: dict[str, PyTree]) -> dict[str, items.Arrays]:
    return {name: state_arrays.flatten(part) for name, part in parts.items()}


def _variables(network: nnx.Module) -> dict[str, PyTree]:
    _, parameters, statistics = nnx.split(network, nnx.Param, ...)
    return {"parameters": parameters, "statistics": statistics}
