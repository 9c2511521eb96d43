"""Write and read the items of one checkpoint with Orbax: arrays and a JSON record."""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._plain_path import plain_path
from jaxkd.training._storage import arrays as state_arrays
from jaxkd.training._storage import files

Arrays = dict[str, Any]
_PIECE = 1 << 20
# Two of Orbax's operations at the same time, such as a write in the background and one
# of the best students, disturb each other's temporary folders (orbax-checkpoint 0.12).
_ONE_AT_A_TIME = threading.Lock()


def write(folder: Path, parts: dict[str, Arrays], record: dict[str, Any]) -> None:
    """Write a checkpoint to a folder that does not exist yet.

    Args:
        folder: The folder to make, in an existing one.
        parts: The arrays of each item by name.
        record: JSON record. The shapes of the arrays are added as ``arrays``.
    """
    import orbax.checkpoint as ocp

    shapes = {name: state_arrays.shapes(part) for name, part in parts.items()}
    items = ocp.args.Composite(
        **{name: ocp.args.StandardSave(part) for name, part in parts.items()},
        record=ocp.args.JsonSave({**record, "arrays": shapes}),
    )
    with plain_path(folder.parent) as parent, _checkpointer() as checkpointer:
        checkpointer.save(parent / folder.name, args=items)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a checkpoint.

    Raises:
        InvalidInputError: If it is not a record that :func:`write` has written.
    """
    import orbax.checkpoint as ocp

    items = ocp.args.Composite(record=ocp.args.JsonRestore())
    with plain_path(folder.parent) as parent, _checkpointer() as checkpointer:
        record = checkpointer.restore(parent / folder.name, args=items)["record"]
    _check_record(record)
    return record


def read_arrays(folder: Path, wanted: dict[str, Arrays]) -> dict[str, Arrays]:
    """Read the arrays of a checkpoint.

    Args:
        folder: The checkpoint.
        wanted: Abstract arrays of each item by name, with their shardings.

    Raises:
        InvalidInputError: If they are larger than the memory of this machine.
    """
    import orbax.checkpoint as ocp

    _check_memory(wanted)
    # Not strict: zeros at the end of a bank's table are added or dropped.
    items = ocp.args.Composite(
        **{
            name: ocp.args.StandardRestore(part, strict=False)
            for name, part in wanted.items()
        }
    )
    with plain_path(folder.parent) as parent, _checkpointer() as checkpointer:
        return dict(checkpointer.restore(parent / folder.name, args=items).items())


def check_written(folder: Path, parts: dict[str, Arrays]) -> None:
    """Read a checkpoint back, and compare it with what was written bit for bit.

    Raises:
        OSError: If it cannot be read, or differs.
    """
    wanted = {
        name: {key: _target(array) for key, array in part.items()}
        for name, part in parts.items()
    }
    try:
        found = read_arrays(folder, wanted)
    except Exception as error:  # whatever the storage library raises
        raise OSError(f"it cannot be read back: {error}") from error
    for name, part in parts.items():
        for key, array in part.items():
            if not _same_bits(array, found[name][key]):
                raise OSError(f"{name} {key} is not read back as it was written")


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    """Open Orbax's writer and reader of one checkpoint."""
    import orbax.checkpoint as ocp  # the import takes a third of a second

    files.silence_repeated_errors()
    handler = ocp.CompositeCheckpointHandler(
        student=ocp.StandardCheckpointHandler(),
        training=ocp.StandardCheckpointHandler(),
        record=ocp.JsonCheckpointHandler(),
    )
    with _ONE_AT_A_TIME, ocp.Checkpointer(handler) as checkpointer:
        yield checkpointer


def _check_record(record: Any) -> None:
    """Refuse a record whose entries have other types than those that are written."""
    shapes = record.get("arrays") if isinstance(record, dict) else None
    if not isinstance(shapes, dict) or not all(map(_are_shapes, shapes.values())):
        raise InvalidInputError("has a record without the shapes of its arrays")
    trials = record.get("trials", [])
    if not (_is_shape(trials) and len(trials) <= 1 and 0 not in trials):
        raise InvalidInputError(
            f"has a record whose trials are {trials!r}, but they must be a list of at "
            "most one positive integer"
        )
    if not isinstance(record.get("averaged", False), bool):
        raise InvalidInputError(
            f"has a record whose entry averaged is {record['averaged']!r}, but it must "
            "be true or false"
        )
    steps = record.get("best_steps", [])
    if not (_is_shape(steps) and 0 not in steps):
        raise InvalidInputError(
            f"has a record whose best_steps are {steps!r}, but they must be a list of "
            "positive integers"
        )
    history = record.get("history", [])
    if not (isinstance(history, list) and all(isinstance(x, dict) for x in history)):
        raise InvalidInputError("has a record whose history is not a list of objects")


def _are_shapes(shapes: Any) -> bool:
    return isinstance(shapes, dict) and all(map(_is_shape, shapes.values()))


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)


def _check_memory(wanted: dict[str, Arrays]) -> None:
    """Refuse arrays that cannot fit, before anything is allocated for them."""
    needed = sum(
        math.prod(array.shape) * np.dtype(array.dtype).itemsize
        for part in wanted.values()
        for array in part.values()
    )
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not known on this system
        return
    # A mesh of several machines holds more than one of them.
    if needed > memory * jax.process_count():
        raise InvalidInputError(
            f"needs {needed / 1e9:,.0f} GB, but this machine has {memory / 1e9:,.0f} GB"
        )


def _target(array: Any) -> Any:
    """Return what to read an array back to: the host's memory, if it is all here."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _same_bits(written: Any, found: Any) -> bool:
    """Compare the parts of two arrays that this process holds."""
    if (written.shape, written.dtype) != (found.shape, found.dtype):
        return False
    if not isinstance(found, jax.Array):
        return _same_bytes(np.asarray(written), found)
    pairs = zip(written.addressable_shards, found.addressable_shards, strict=True)
    return all(_same_bytes(np.asarray(a.data), np.asarray(b.data)) for a, b in pairs)


def _same_bytes(left: np.ndarray, right: np.ndarray) -> bool:
    """Compare piece by piece, without copies of the whole, while other threads run."""
    left, right = (
        np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (left, right)
    )
    return all(
        np.array_equal(left[at : at + _PIECE], right[at : at + _PIECE])
        for at in range(0, left.size, _PIECE)
    )
