"""The files of one epoch while they are written."""

import contextlib
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.recordings import _manifest
from jaxkd.recordings._codec import Codec, Part, deviations

PREFIX = ".partial-"


class Epoch:
    """The files of an epoch that is not complete, in a folder of their own.

    Args:
        target: The folder of the complete epoch.
        rows: Number of rows of the complete epoch.

    Attributes:
        count: Number of rows that are written.
        deviations: Largest deviations so far, by the outputs' names.
    """

    def __init__(self, target: Path, rows: int):
        self._target, self._rows = target, rows
        self._folder = target.with_name(PREFIX + target.name)
        remove(self._folder)
        self._folder.mkdir()
        self._files: dict[str, Any] = {}
        self._checksums: dict[str, int] = {}
        self.count = 0
        self.deviations: dict[str, dict[str, float]] = {}

    def append(
        self, codecs: dict[str, Codec], outputs: dict[str, np.ndarray], rows: Any
    ) -> None:
        """Write the next rows of all outputs, and their row numbers if given."""
        encoded = {name: codecs[name].encode(x) for name, x in outputs.items()}
        for name, codec in codecs.items():
            for suffix, part in codec.parts().items():
                self._write(part, encoded[name][suffix])
            found = deviations(codec, outputs[name], encoded[name])
            merge(self.deviations.setdefault(name, {}), found)
        if rows is not None:
            self._write(_manifest.ROWS, rows)
        self.count += len(next(iter(outputs.values())))

    def complete(self) -> dict[str, int]:
        """Move the files, which are on disk by then, to the folder of the epoch.

        Returns:
            The checksums of the files.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        sync_folder(self._folder)
        remove(self._target)
        self._folder.rename(self._target)
        sync_folder(self._target.parent)
        return self._checksums

    def discard(self) -> None:
        """Remove the files."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # a full disk, once more
                file.close()
        remove(self._folder)

    def _write(self, part: Part, array: np.ndarray) -> None:
        if part.file not in self._files:
            self._files[part.file] = (self._folder / part.file).open("xb")
            self._checksums[part.file] = 0
            self._write_bytes(part.file, _manifest.header(part, self._rows))
        content = np.ascontiguousarray(array, part.dtype).tobytes()
        self._write_bytes(part.file, content)

    def _write_bytes(self, name: str, content: bytes) -> None:
        self._files[name].write(content)
        self._checksums[name] = zlib.crc32(content, self._checksums[name])


def merge(largest: dict[str, float], found: dict[str, float]) -> None:
    """Raise the largest values to those found."""
    for name, value in found.items():
        largest[name] = max(largest.get(name, 0.0), value)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, where the system can do so."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
