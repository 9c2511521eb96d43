"""Folders of memory-mapped arrays that are either complete or absent."""

import contextlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError

_METADATA = "metadata.json"


def cache_root(cache_dir: str | os.PathLike | None) -> Path:
    """Return the argument, else JAXKD_CACHE_DIR, else the user's cache folder."""
    chosen = cache_dir or os.environ.get("JAXKD_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user) / "jaxkd"


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to ``target`` if the body succeeds.

    The folder is removed on any failure, so ``target`` is never incomplete. If another
    process creates ``target`` first, its folder is kept and this one is removed.

    Raises:
        InvalidInputError: If the folder cannot be written, for instance on a full disk.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
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
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
