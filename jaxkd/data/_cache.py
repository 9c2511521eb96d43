"""Folders of memory-mapped arrays that are either complete or absent."""

import contextlib
import json
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_METADATA = "metadata.json"
# Clocks of file systems tick every 1 to 10 milliseconds.
_TICK_NS = 20_000_000
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")
_SECONDS_UNMARKED = 24 * 3600


def cache_root(cache_dir: str | os.PathLike | None) -> Path:
    """Return the argument, else JAXKD_CACHE_DIR, else the user's cache folder."""
    chosen = cache_dir or os.environ.get("JAXKD_CACHE_DIR")
    if chosen:
        return expand_home(chosen, "cache_dir")
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "jaxkd"


def stamp_of(path: str | Path) -> str:
    """Return text that changes whenever a file changes, without reading the file.

    The time of the last change of the inode is part of it. Programs cannot set it, in
    contrast to the time of modification. Two changes within one tick of the file
    system's clock have the same time, so the function waits until the tick of the last
    change is over: what is read afterwards belongs to the stamp.
    """
    stat = os.stat(path)
    age = time.time_ns() - max(stat.st_ctime_ns, stat.st_mtime_ns)
    if 0 <= age < _TICK_NS:
        time.sleep(_TICK_NS / 1e9)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to ``target`` if the body succeeds.

    The folder is removed on any failure, so ``target`` is never incomplete. If another
    process creates ``target`` first, its folder is kept and this one is removed. What a
    killed process has left behind is removed, too.

    Raises:
        InvalidInputError: If the folder cannot be written, for instance on a full disk.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        with _marked_as_alive(temporary):
            temporary.mkdir()
            yield temporary
            _sync_folder(temporary)
            try:
                temporary.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
            _sync_folder(target.parent)
    except OSError as error:
        raise InvalidInputError(
            f"cannot write the dataset cache {target}: {error.strerror or error}; free "
            "disk space, or choose another folder with cache_dir or JAXKD_CACHE_DIR",
            argument="cache_dir",
        ) from error


@contextlib.contextmanager
def _marked_as_alive(temporary: Path) -> Iterator[None]:
    """Hold a lock beside a temporary folder; remove both in the end.

    The operating system releases the lock when the process ends in any way.
    """
    mark = _mark_of(temporary)
    with mark.open("xb") as file:
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # Not all file systems have locks.
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            mark.unlink(missing_ok=True)


def _remove_leftovers(parent: Path) -> None:
    """Remove the temporary folders of processes that have ended."""
    for path in list(parent.iterdir()):
        name = path.name.removesuffix(".lock")
        if _TEMPORARY.fullmatch(name) and _is_abandoned(parent / name):
            shutil.rmtree(parent / name, ignore_errors=True)
            with contextlib.suppress(OSError):
                _mark_of(parent / name).unlink(missing_ok=True)


def _is_abandoned(temporary: Path) -> bool:
    try:
        with _mark_of(temporary).open("rb") as file:
            if fcntl is None:
                return False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        # An older version wrote it, which had no locks and may still do so.
        with contextlib.suppress(OSError):
            return time.time() - temporary.lstat().st_mtime > _SECONDS_UNMARKED
        return False
    except OSError:  # Another process holds the lock, or there are no locks.
        return False


def _mark_of(temporary: Path) -> Path:
    return temporary.with_name(f"{temporary.name}.lock")


def write_array(
    path: Path, shape: tuple[int, ...], dtype: np.typing.DTypeLike, parts: Iterable
) -> dict[str, Any]:
    """Write a .npy file part by part; return the properties to check when reading.

    Regular writes are used because writing to a memory map on a full disk crashes the
    process instead of raising ``OSError``.
    """
    dtype = np.dtype(dtype)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    checksum = 0
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            data = np.ascontiguousarray(part, dtype).data
            file.write(data)
            checksum = zlib.crc32(data, checksum)
        file.flush()
        os.fsync(file.fileno())
    return {
        "shape": list(shape),
        "dtype": dtype.name,
        "bytes": path.stat().st_size,
        "crc32": checksum,
    }


@contextlib.contextmanager
def record_writer(path: Path) -> Iterator[Any]:
    """Yield a writer of an array_record file. If it fails, it raises ``OSError``."""
    from array_record.python.array_record_module import ArrayRecordWriter

    try:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        yield writer
        writer.close()
    except RuntimeError as error:  # For instance on a full disk.
        raise OSError(str(error)) from error


def write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    """Write the metadata; ``"files"`` maps each stem to the result of `write_array`."""
    with (folder / _METADATA).open("x", encoding="utf-8") as file:
        json.dump(metadata, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the metadata, verify the checksums and memory-map the arrays.

    Raises:
        InvalidInputError: If a file differs from the one that was written.
    """
    path = folder / _METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        arrays = {}
        for name, expected in metadata["files"].items():
            path = folder / f"{name}.npy"
            arrays[name] = _read_array(path, expected)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"the cached file {path} is damaged ({error}); delete the folder {folder} "
            "and run again to rebuild it"
        ) from error
    return metadata, arrays


def _read_array(path: Path, expected: dict[str, Any]) -> np.ndarray:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise ValueError(f"{size} bytes instead of {expected['bytes']}")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if list(array.shape) != expected["shape"] or array.dtype != expected["dtype"]:
        raise ValueError(f"it holds {array.dtype.name} {list(array.shape)}")
    # This reads the file once, at memory speed. Training would read it anyway.
    if zlib.crc32(array) != expected["crc32"]:
        raise ValueError("wrong checksum")
    return array


def _sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that renames and new files survive a power failure."""
    with contextlib.suppress(OSError):  # Some file systems cannot sync a folder.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
