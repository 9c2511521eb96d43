"""Checkpoints of the whole run, through Orbax."""

import contextlib
import errno
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.training._stages import LoopState

PyTree = Any

_CHECKSUMS = "checksums.json"


class CheckpointError(OSError):
    """A checkpoint could not be written; the finished ones are untouched."""


class Checkpoints:
    """A folder of finished checkpoints.

    Each holds two sets of arrays, so that a network can be loaded without the run that
    made it: ``student`` (parameters and batch statistics) and ``training`` (heads,
    banks, optimizer, step, randomness, sums of the epoch; absent where a network was
    saved alone), and a JSON record. Orbax
    writes into a temporary folder and renames it: what has a step's name is complete.
    Checksums of its files tell later damage.

    Args:
        directory: Created on the first save.
        keep: How many of the newest to keep.
        every_steps: Also save within epochs, whenever the step is a multiple.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self, directory: Path, *, keep: int = 2, every_steps: int | None = None
    ):
        _checks.check_at_least(1, keep=keep)
        if every_steps is not None:
            _checks.check_at_least(1, every_steps=every_steps)
        self.directory = Path(directory).absolute()
        self.every_steps = every_steps
        self._keep = keep

    @contextlib.contextmanager
    def _manager(self, *, create: bool) -> Iterator[Any]:
        import orbax.checkpoint as ocp  # a third of a second, only where it is used

        logging.getLogger("absl").setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep,
            create=create,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=create,
        )
        handlers = {
            "student": ocp.StandardCheckpointHandler(),
            "training": ocp.StandardCheckpointHandler(),
            "record": ocp.JsonCheckpointHandler(),
        }
        with ocp.CheckpointManager(
            self.directory, options=options, item_handlers=handlers
        ) as manager:
            yield manager

    def latest(self) -> int | None:
        """The step of the newest finished checkpoint, or None."""
        if not self.directory.is_dir():
            return None
        with self._manager(create=False) as manager:
            return manager.latest_step()

    def save(self, step: int, loop: LoopState, record: dict[str, Any]) -> None:
        """Writes a checkpoint; returns when it is complete on disk.

        Raises:
            CheckpointError: If it cannot be written (a full disk, say).
        """
        self._save(step, _parts(loop), {**record, "trials": list(loop.train.key.shape)})

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

        arrays = {name: _flatten(part) for name, part in parts.items()}
        items = ocp.args.Composite(
            **{name: ocp.args.StandardSave(part) for name, part in arrays.items()},
            record=ocp.args.JsonSave(
                {**record, "arrays": {k: _shapes(part) for k, part in arrays.items()}}
            ),
        )
        try:
            with self._manager(create=True) as manager:
                manager.save(step, args=items, force=True)
            _write_checksums(self.directory / str(step))
        # Depending on where the write fails, Orbax and TensorStore raise any of these.
        except (OSError, ValueError, RuntimeError) as error:
            _remove_unfinished(self.directory)
            last = self.latest()
            kept = "there is no older one" if last is None else f"step {last} is kept"
            raise CheckpointError(
                f"could not write the checkpoint of step {step} to {self.directory} "
                f"({_reason(error)}); {kept}"
            ) from error

    def restore(self, like: LoopState) -> tuple[LoopState, dict[str, Any]]:
        """Reads the newest finished checkpoint.

        Args:
            like: A state of the same experiment; gives structure, shapes and dtypes.

        Returns:
            The state as it was saved, bit for bit, and its record.

        Raises:
            ValueError: If there is none, or it belongs to another experiment.
        """
        items = self._read(_parts(like))
        train, monitor = items["training"]
        train = train._replace(
            student=items["student"]["parameters"], rest=items["student"]["statistics"]
        )
        return LoopState(train, monitor), items["record"]

    def restore_network(self, network: nnx.Module, *, trial: int = 0) -> dict[str, Any]:
        """Loads the newest student's variables into a network of that architecture.

        Args:
            network: Updated in place; it may be abstract (``nnx.eval_shape``).
            trial: Which of the students, in a run of several.

        Returns:
            The checkpoint's record.

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
            raise InvalidInputError(f"no finished checkpoint in {self.directory}")
        abstract = {name: jax.eval_shape(_flatten, tree) for name, tree in like.items()}
        try:
            _verify_checksums(self.directory / str(step))
            with self._manager(create=False) as manager:
                record = manager.restore(
                    step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
                )["record"]
                stored, trials = record.pop("arrays"), record.pop("trials", [])
                if trial is not None:
                    abstract = _of_all_trials(abstract, trials, trial)
                for name, wanted in abstract.items():
                    _check_shapes(name, stored.get(name, {}), _shapes(wanted))
                restore = {k: ocp.args.StandardRestore(v) for k, v in abstract.items()}
                items = manager.restore(step, args=ocp.args.Composite(**restore))
        except InvalidInputError as error:
            raise InvalidInputError(
                f"the checkpoint of step {step} in {self.directory} {error}"
            ) from None
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InvalidInputError(
                f"cannot read the checkpoint of step {step} in {self.directory} "
                f"({_reason(error)}); delete that step's folder to use an older one"
            ) from error
        if trial is not None and trials:
            items = {k: {n: x[trial] for n, x in items[k].items()} for k in like}
        result = {k: _unflatten(items[k], tree) for k, tree in like.items()}
        return {**result, "record": record}


def _remove_unfinished(directory: Path) -> None:
    """Removes what a failed save has left.

    Orbax's threads may write on for a moment after the error: until nothing has come
    back for a while, but no longer than a few seconds, try again.
    """
    quiet = 0
    for _ in range(50):
        unfinished = list(directory.glob("*.orbax-checkpoint-tmp*"))
        quiet = 0 if unfinished else quiet + 1
        if quiet == 3:
            return
        for folder in unfinished:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)


def _parts(loop: LoopState) -> dict[str, PyTree]:
    """Splits a state into the student and the rest of the run."""
    return {
        "student": {"parameters": loop.train.student, "statistics": loop.train.rest},
        "training": (loop.train._replace(student=(), rest=()), loop.monitor),
    }


def _variables(network: nnx.Module) -> dict[str, PyTree]:
    _, parameters, statistics = nnx.split(network, nnx.Param, ...)
    return {"parameters": parameters, "statistics": statistics}


def _names(tree: PyTree) -> list[str]:
    """A readable name for each leaf, in order."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for path, _ in paths
    ]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _flatten(tree: PyTree) -> dict[str, jax.Array]:
    """Arrays by name; typed keys as the integers they hold."""
    return {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in zip(_names(tree), jax.tree.leaves(tree), strict=True)
    }


def _unflatten(arrays: dict[str, jax.Array], like: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(like)
    restored = [
        _as_key(arrays[name], leaf) if _is_key(leaf) else arrays[name]
        for name, leaf in zip(_names(like), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)


def _as_key(data: jax.Array, like: Any) -> jax.Array:
    """Key data as a key of the same kind as another, which may be abstract."""
    kinds = []
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), like)
    return jax.random.wrap_key_data(data, impl=kinds[0])


def _of_all_trials(abstract: PyTree, trials: list[int], trial: int) -> PyTree:
    """The arrays that hold one trial's among others."""
    count = trials[0] if trials else 1
    if trial >= count:
        raise InvalidInputError(
            f"has no trial {trial}: its run has {count}, numbered from 0"
        )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((*trials, *leaf.shape), leaf.dtype), abstract
    )


def _shapes(arrays: dict[str, Any]) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in arrays.items()}


def _check_shapes(item: str, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Names the first array that differs between a checkpoint and what is wanted."""
    for name in sorted({*wanted, *stored}):
        there, here = (tree.get(name, "no such array") for tree in (stored, wanted))
        if there != here:
            raise InvalidInputError(
                f"is of another experiment: {item} {name} is {there} there, {here} here"
            )


def _checksums(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): zlib.crc32(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _CHECKSUMS
    }


def _write_checksums(folder: Path) -> None:
    temporary = folder / f".{_CHECKSUMS}"
    temporary.write_text(json.dumps(_checksums(folder)))
    temporary.replace(folder / _CHECKSUMS)


def _verify_checksums(folder: Path) -> None:
    """Raises if a file changed. A kill may leave a checkpoint without checksums."""
    path = folder / _CHECKSUMS
    if path.exists() and json.loads(path.read_text()) != _checksums(folder):
        raise InvalidInputError(
            "is damaged: its files are not what was written; delete that step's "
            "folder to use an older one"
        )


def _reason(error: BaseException) -> str:
    """An error in a few words, for one line on a terminal."""
    text = str(error).strip() or type(error).__name__
    full = os.strerror(errno.ENOSPC)
    return full if full in text else text.splitlines()[0][:200]
