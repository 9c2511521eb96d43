"""Checkpoints of the whole run, through Orbax."""

import errno
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.training._devices.processes import first_alone, is_first
from jaxkd.training._state import LoopState
from jaxkd.training._step import Average
from jaxkd.training._storage import arrays as _arrays
from jaxkd.training._storage import checksums as _checksums

PyTree = Any

_UNFINISHED = "unfinished"


class CheckpointError(OSError):
    """A checkpoint could not be written; the finished ones are untouched."""


class Damage(NamedTuple):
    """A finished checkpoint whose files are not what was written.

    Attributes:
        step: Its step.
        reason: What is wrong, in a few words.
    """

    step: int
    reason: str


class Checkpoints:
    """A folder of finished checkpoints.

    Each holds two sets of arrays, so that a network can be loaded without the run that
    made it: ``student`` (parameters and batch statistics) and ``training`` (heads,
    banks, optimizer, step, randomness, sums of the epoch; absent where a network was
    saved alone), and a JSON record. Where a moving average of the student is kept, that
    is the ``student``, and the one that is trained lies in ``training``. Orbax writes
    them into a folder of unfinished ones, the checksums of all files join them there,
    and the whole is renamed: what has a step's name was complete once, and its
    checksums tell whether it still is. What is damaged is not used, and renamed rather
    than replaced.

    Args:
        directory: Created on the first save.
        keep: How many of the newest to keep.
        every_steps: Also save within epochs, whenever the step passes a multiple.
        every_minutes: Also save within epochs, when the last save is that long ago.

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

    def steps(self) -> list[int]:
        """The steps of all finished checkpoints in order, damaged ones included."""
        if not self.directory.is_dir():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if _is_step(p.name))

    def latest(self) -> int | None:
        """The step of the newest finished checkpoint that is intact, or None."""
        for step in reversed(self.steps()):
            if _checksums.damage(self.directory / str(step)) is None:
                return step
        return None

    def damaged(self) -> list[Damage]:
        """The damaged checkpoints that are newer than :meth:`latest`, newest first."""
        found = []
        for step in reversed(self.steps()):
            reason = _checksums.damage(self.directory / str(step))
            if reason is None:
                break
            found.append(Damage(step, reason))
        return found

    def set_aside(self, step: int, why: str = "damaged") -> Path:
        """Renames a checkpoint so that it is neither used nor in the way.

        Returns:
            Its new name: ``<step>.<why>``, and a number if there is one already.
        """
        target, number = self.directory / f"{step}.{why}", 2
        while target.exists():
            target, number = self.directory / f"{step}.{why}-{number}", number + 1
        return (self.directory / str(step)).rename(target)

    def save(self, step: int, loop: LoopState, record: dict[str, Any]) -> None:
        """Writes a checkpoint; returns when it is complete on disk.

        Raises:
            CheckpointError: If it cannot be written (a full disk, say).
        """
        record = {**record, "trials": list(loop.train.key.shape)}
        if isinstance(loop.train.average, Average):
            record["averaged"] = True
        self._save(step, _parts(loop), record)

    def save_network(
        self, network: nnx.Module, record: dict[str, Any], *, step: int = 0
    ) -> None:
        """Writes a network alone, as :meth:`restore_network` reads it.

        Without a run's optimizer, heads and banks there is nothing to resume.

        Raises:
            CheckpointError: If it cannot be written (a full disk, say).
        """
        self._save(step, {"student": _variables(network)}, record)

    def _save(
        self, step: int, parts: dict[str, PyTree], record: dict[str, Any]
    ) -> None:
        import orbax.checkpoint as ocp

        arrays = {name: _arrays.flatten(part) for name, part in parts.items()}
        items = ocp.args.Composite(
            **{name: ocp.args.StandardSave(part) for name, part in arrays.items()},
            record=ocp.args.JsonSave(
                {
                    **record,
                    "arrays": {k: _arrays.shapes(part) for k, part in arrays.items()},
                }
            ),
        )
        unfinished = self.directory / _UNFINISHED
        written = unfinished / str(step)

        def begin():
            shutil.rmtree(unfinished, ignore_errors=True)  # what a kill has left
            unfinished.mkdir(parents=True)

        def complete():
            _checksums.write(written)
            self._finish(step, written)

        refusal = OSError("the first process could not write")
        try:
            first_alone(begin, refusal)
            with _checkpointer() as checkpointer:
                checkpointer.save(written, args=items)
            first_alone(complete, refusal)
        # Depending on where the write fails, Orbax and TensorStore raise any of these.
        except (OSError, ValueError, RuntimeError) as error:
            if is_first():
                _remove(unfinished)
            last = self.latest()
            kept = "there is no older one" if last is None else f"step {last} is kept"
            raise CheckpointError(
                f"could not write the checkpoint of step {step} to {self.directory} "
                f"({_reason(error)}); {kept}"
            ) from error
        if is_first():
            shutil.rmtree(unfinished, ignore_errors=True)

    def _finish(self, step: int, written: Path) -> None:
        """Gives a complete checkpoint its name; takes it from those too old to keep."""
        final = self.directory / str(step)
        for later in self.steps():
            if later >= step and _checksums.damage(self.directory / str(later)):
                self.set_aside(later)
        if final.exists():
            final.rename(written.with_name("replaced"))
        written.rename(final)
        for old in self.steps()[: -self._keep]:
            # A kill amid the deletion must not leave a half of it under its name.
            (self.directory / str(old)).rename(written.with_name(f"{old}.old"))

    def restore(self, like: LoopState) -> tuple[LoopState, dict[str, Any]]:
        """Reads the newest finished checkpoint that is intact.

        Args:
            like: A state of the same experiment; gives structure, shapes, dtypes and
                where arrays lie, be it on other devices than those that wrote it.

        Returns:
            The state as it was saved, bit for bit, and its record.

        Raises:
            ValueError: If there is none, or it belongs to another experiment.
        """
        items = self._read(_parts(like))
        train, monitor = items["training"]
        parameters, statistics = items["student"].values()
        if isinstance(average := train.average, Average):
            average = average._replace(parameters=parameters, statistics=statistics)
            train = train._replace(average=average)
        else:
            train = train._replace(student=parameters, rest=statistics)
        return LoopState(train, monitor), items["record"]

    def restore_network(self, network: nnx.Module, *, trial: int = 0) -> dict[str, Any]:
        """Loads the newest student's variables into a network of that architecture.

        Args:
            network: Updated in place; it may be abstract (``nnx.eval_shape``).
            trial: Which of the students, in a run of several.

        Returns:
            The checkpoint's record. ``averaged`` in it, true, says that this is the
            student's moving average, in the network's own dtypes.

        Raises:
            ValueError: If there is none, it belongs to another architecture, or it
                has no such trial.
        """
        _checks.check_at_least(0, trial=trial)
        items = self._read({"student": _variables(network)}, trial=trial)
        nnx.update(network, *items["student"].values())
        return items["record"]

    def _read(
        self, like: dict[str, PyTree], *, trial: int | None = None
    ) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        step = self.latest()
        if step is None:
            self.refuse_damaged()
            raise InvalidInputError(f"no finished checkpoint in {self.directory}")
        abstract = {name: _arrays.abstract(tree) for name, tree in like.items()}
        folder = self.directory / str(step)
        try:
            with _checkpointer() as checkpointer:
                record = checkpointer.restore(
                    folder, args=ocp.args.Composite(record=ocp.args.JsonRestore())
                )["record"]
                stored, trials = record.pop("arrays"), record.pop("trials", [])
                if trial is not None:
                    abstract = _of_all_trials(abstract, trials, trial)
                for name, wanted in abstract.items():
                    _check_shapes(
                        name,
                        stored.get(name, {}),
                        _arrays.shapes(wanted),
                        _arrays.bank_names(like[name]),
                    )
                # Not strict: of a bank's table, zeros at its end are added or left out.
                restore = {
                    name: ocp.args.StandardRestore(wanted, strict=False)
                    for name, wanted in abstract.items()
                }
                items = checkpointer.restore(folder, args=ocp.args.Composite(**restore))
        except InvalidInputError as error:
            raise InvalidInputError(
                f"the checkpoint of step {step} in {self.directory} {error}"
            ) from None
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InvalidInputError(
                f"cannot read the checkpoint of step {step} in {self.directory} "
                f"({_reason(error)}); rename that step's folder to use an older one"
            ) from error
        if trial is not None and trials:
            items = {k: {n: x[trial] for n, x in items[k].items()} for k in like}
        result = {k: _arrays.unflatten(items[k], tree) for k, tree in like.items()}
        return {**result, "record": record}

    def refuse_damaged(self) -> None:
        """Refuses to go on from nothing but damaged checkpoints.

        Raises:
            ValueError: If there are checkpoints, and none is intact.
        """
        damaged = self.damaged()
        if not damaged or len(damaged) < len(self.steps()):
            return
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged)
        raise InvalidInputError(
            f"every checkpoint in {self.directory} is damaged ({reasons}); without a "
            "copy of one, the run must start again in another folder"
        )


def _checkpointer() -> Any:
    """Orbax's writer and reader of one checkpoint, for use in a ``with``."""
    import orbax.checkpoint as ocp  # a third of a second, only where it is used

    logging.getLogger("absl").setLevel(logging.ERROR)
    handler = ocp.CompositeCheckpointHandler(
        student=ocp.StandardCheckpointHandler(),
        training=ocp.StandardCheckpointHandler(),
        record=ocp.JsonCheckpointHandler(),
    )
    return ocp.Checkpointer(handler)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _remove(folder: Path) -> None:
    """Removes what a failed save has left.

    Orbax's threads may write on for a moment after the error: until nothing has come
    back for a while, but no longer than a few seconds, try again.
    """
    quiet = 0
    for _ in range(50):
        quiet = 0 if folder.exists() else quiet + 1
        if quiet == 3:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)


def _parts(loop: LoopState) -> dict[str, PyTree]:
    """Splits a state into the network that it hands on and the rest of the run."""
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


def _variables(network: nnx.Module) -> dict[str, PyTree]:
    _, parameters, statistics = nnx.split(network, nnx.Param, ...)
    return {"parameters": parameters, "statistics": statistics}


def _of_all_trials(abstract: PyTree, trials: list[int], trial: int) -> PyTree:
    """The arrays that hold one trial's among others."""
    count = trials[0] if trials else 1
    if trial >= count:
        raise InvalidInputError(
            f"has no trial {trial}: its run has {count}, numbered from 0"
        )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (*trials, *leaf.shape), leaf.dtype, sharding=leaf.sharding
        ),
        abstract,
    )


def _check_shapes(
    item: str, stored: dict[str, Any], wanted: dict[str, Any], banks: set[str]
) -> None:
    """Names the first array that differs between a checkpoint and what is wanted.

    Banks may differ in the zeros that fill them up; the labels of their rows may not.
    """
    for name in sorted({*wanted, *stored}):
        there, here = (tree.get(name, "no such array") for tree in (stored, wanted))
        both = name in stored and name in wanted
        if both and name in banks and len(there) == len(here):
            there = [*there[:-2], here[-2], there[-1]]
        if there != here:
            raise InvalidInputError(
                f"is of another experiment: {item} {name} is {there} there, {here} here"
            )


def _reason(error: BaseException) -> str:
    """An error in a few words, for one line on a terminal."""
    text = str(error).strip() or type(error).__name__
    full = os.strerror(errno.ENOSPC)
    return full if full in text else text.splitlines()[0][:200]
