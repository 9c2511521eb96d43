"""Read arrays from .npz files that may be damaged or hostile; ``_npz`` uses them."""

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._files import check_regular

# Photographs and drawings compress far less. Smaller arrays may be constant.
_LARGEST_RATIO = 250
_RATIO_MATTERS_FROM = 2**30


def read_arrays(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read arrays of a .npz file, after a check of its headers.

    Nothing is unpickled, because that can run code, and nothing is unpacked that does
    not fit in memory.

    Args:
        path: The file.
        required: Names of arrays that must be there.
        optional: Names of arrays to read if they are there.

    Raises:
        InvalidInputError: If an array is missing or cannot be read.
    """
    check_regular(path)
    where = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            missing = [key for key in required if key not in members]
            if missing:
                found = ", ".join(sorted(members)[:8]) or "nothing"
                raise InvalidInputError(
                    f"{path} must contain {', '.join(required)}; {missing[0]} is "
                    f"missing; it contains {found}; save the arrays again under the "
                    f"names that are expected: np.savez(FILE, {missing[0]}=..., ...)",
                    argument="name",
                )
            wanted = [key for key in (*required, *optional) if key in members]
            _check_sizes(path, {key: members[key] for key in wanted})
            arrays = {}
            for key in wanted:
                where = f"{key} of {path}"
                arrays[key] = _read(archive, members[key])
            return arrays
    except InvalidInputError:
        raise
    except MemoryError:
        raise InvalidInputError(
            f"cannot read {where}: there is not enough memory", argument="name"
        ) from None
    # zipfile, its decompressors and NumPy raise many types for damaged files.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(
            f"cannot read {where}: {reason}", argument="name"
        ) from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _check_sizes(path: Path, members: dict[str, zipfile.ZipInfo]) -> None:
    """Raise if arrays would not fit in memory, or compress implausibly well."""
    unpacked = sum(info.file_size for info in members.values())
    size = path.stat().st_size
    largest = max(members, key=lambda key: members[key].file_size)
    claim = (
        f"{path} claims to contain {_in_words(unpacked)} ({largest}: "
        f"{_in_words(members[largest].file_size)}), but the file has {_in_words(size)}"
    )
    available = _available_memory()
    if available is not None and unpacked > available:
        raise InvalidInputError(
            f"{claim} and {_in_words(available)} of memory are free: use fewer or "
            "smaller images, or a folder of images, which is read piece by piece",
            argument="name",
        )
    if unpacked > max(_RATIO_MATTERS_FROM, _LARGEST_RATIO * size):
        raise InvalidInputError(
            f"{claim}, less than 1/{_LARGEST_RATIO} of it: images do not compress that "
            "well. If the file is right, save it again with np.savez, uncompressed",
            argument="name",
        )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array, if its header agrees with the size of its data."""
    with archive.open(info) as file:
        shape, dtype = _header(file)
        header = file.tell()
    if dtype.hasobject:
        raise ValueError(
            "it holds Python objects, and unpickling them could run code; save numbers "
            "or text instead, such as np.array(names, dtype=str)"
        )
    expected = header + math.prod(shape) * dtype.itemsize
    if expected != info.file_size:
        raise ValueError(
            f"its header is that of an array {shape} of {dtype}, {expected:,} bytes, "
            f"but it has {info.file_size:,}"
        )
    with archive.open(info) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # At the end of the data, zipfile compares the checksum.
    return array


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Read the shape and the dtype of an array."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception:  # NumPy evaluates the header, which fails in many ways.
        raise ValueError("it is not an array, or its header is damaged") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"its header is damaged: the shape is {shape}")
    return shape, dtype


def _available_memory() -> int | None:
    """Return how many bytes of memory can be used without swapping, if known."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def _in_words(size: float | int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
