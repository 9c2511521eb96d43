"""Write a recording, epoch after epoch; continue after a kill."""

import contextlib
import dataclasses
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._files import expand_home
from jaxkd.distillers import Classifier
from jaxkd.recordings import _manifest
from jaxkd.recordings._codec import Codec, Part, deviations
from jaxkd.recordings._manifest import Manifest
from jaxkd.recordings._views import Views


def create(
    path: str | os.PathLike,
    views: Views,
    *,
    class_names: Sequence[str],
    teacher: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    top_k: int | None = None,
    load_options: Mapping[str, Any] | None = None,
    available: Sequence[str] = (),
    resume: bool = True,
) -> "Writer":
    """Create a recording, or continue one."""
    path = expand_home(path, "path")
    manifest = Manifest(
        views=views,
        class_names=tuple(class_names),
        teacher=dict(teacher or {}),
        load_options=dict(load_options or {}),
        dtype=dtype,
        top_k=top_k,
        available=tuple(available),
    )
    return Writer(path, manifest, resume=resume)


class Writer:
    """Writes the teacher's outputs of one epoch after another.

    Attributes:
        path: The recording.
        next_epoch: The first epoch that is not complete, counted from 0.
    """

    def __init__(self, path: Path, manifest: Manifest, *, resume: bool):
        self.path = path
        if (path / _manifest.FILE).exists():
            manifest = _manifest.read(path)
        else:
            path.mkdir(parents=True, exist_ok=True)
            _manifest.write(path, manifest)
        self._manifest = manifest
        self._epoch: _Epoch | None = None

    def __enter__(self) -> "Writer":
        """Return the writer."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Remove what was written of an epoch that is not complete."""
        self._discard()

    @property
    def next_epoch(self) -> int:
        """The first epoch that is not complete, counted from 0."""
        return len(self._manifest.epochs)

    @property
    def complete(self) -> bool:
        """Whether all epochs are recorded."""
        return self.next_epoch >= self._manifest.wanted_epochs

    def begin_epoch(self) -> None:
        """Begin the next epoch."""
        views = self._manifest.views
        name = _manifest.folder_of(views, self.next_epoch)
        self._epoch = _Epoch(self.path / f".partial-{name}", views.rows_per_epoch)

    def append(self, outputs: Mapping[str, Any]) -> None:
        """Append the outputs for the next rows of the epoch."""
        assert self._epoch is not None
        arrays = {name: np.asarray(x, np.float32) for name, x in outputs.items()}
        if not self._manifest.outputs:
            self._manifest = dataclasses.replace(
                self._manifest,
                outputs={name: x.shape[1:] for name, x in arrays.items()},
            )
        for name, codec in self._manifest.codecs().items():
            self._epoch.append(codec, arrays[name])

    def end_epoch(self) -> None:
        """Complete the epoch: its files are on disk, and listed in the manifest."""
        assert self._epoch is not None
        checksums = self._epoch.close()
        target = self.path / _manifest.folder_of(self._manifest.views, self.next_epoch)
        if target.exists():
            shutil.rmtree(target)
        self._epoch.folder.rename(target)
        self._epoch = None
        manifest = dataclasses.replace(
            self._manifest, epochs=(*self._manifest.epochs, checksums)
        )
        _manifest.write(self.path, manifest)
        self._manifest = manifest

    def finish(self, classifier: Classifier | None = None) -> None:
        """Complete the recording."""

    def _discard(self) -> None:
        if self._epoch is not None:
            self._epoch.discard()
            self._epoch = None


class _Epoch:
    """The files of an epoch that is being written."""

    def __init__(self, folder: Path, rows: int):
        self.folder, self._rows = folder, rows
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        self._files: dict[str, tuple[Any, int]] = {}
        self.measured: dict[str, dict[str, float]] = {}

    def append(self, codec: Codec, output: np.ndarray) -> None:
        arrays = codec.encode(output)
        found = self.measured.setdefault(codec.name, {})
        for name, value in deviations(codec, output, arrays).items():
            found[name] = max(found.get(name, 0.0), value)
        for suffix, part in codec.parts().items():
            self._write(part, np.ascontiguousarray(arrays[suffix]).tobytes())

    def _write(self, part: Part, content: bytes) -> None:
        if part.file not in self._files:
            self._files[part.file] = (self.folder / part.file).open("xb"), 0
            self._write(part, _manifest.header(part, self._rows))
        file, checksum = self._files[part.file]
        file.write(content)
        self._files[part.file] = file, zlib.crc32(content, checksum)

    def close(self) -> dict[str, int]:
        for file, _ in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        return {name: checksum for name, (_, checksum) in self._files.items()}

    def discard(self) -> None:
        for file, _ in self._files.values():
            with contextlib.suppress(OSError):
                file.close()
        shutil.rmtree(self.folder, ignore_errors=True)
