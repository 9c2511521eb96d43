"""Write a recording, epoch after epoch; continue after a kill."""

import contextlib
import dataclasses
import errno
import io
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole
from jaxkd._lock import Lock
from jaxkd._text import count, printable
from jaxkd.distillers import Classifier
from jaxkd.recordings import _manifest
from jaxkd.recordings._epoch import PREFIX, Epoch, merge, remove
from jaxkd.recordings._manifest import Manifest
from jaxkd.recordings._settings import (
    check_settings,
    check_top_k,
    check_values,
    continued,
)
from jaxkd.recordings._size import in_words

EPOCH = re.compile(rf"({re.escape(PREFIX)})?(clean|epoch-\d{{5,}})")
"""Names of the folders of epochs, complete or not."""


def lock_of(path: Path) -> Lock:
    """Return the lock of a recording that is written."""
    return Lock(path, path / "lock", kind="recording")


class Writer:
    """Writes the teacher's outputs of one epoch after another.

    Build one with :func:`create`, which explains the settings. After a kill, the
    manifest lists the complete epochs, and a new writer removes all other files and
    continues behind them.

    Attributes:
        path: The recording.
        next_epoch: The first epoch that is not complete, counted from 0.
        complete: Whether all epochs are recorded.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self._epoch: Epoch | None = None
        self._measured = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_of(path).hold())
            if os.path.lexists(path / _manifest.FILE):
                manifest = continued(_manifest.read(path), manifest, path)
            self._manifest = manifest
            self._remove_leftovers()
            with self._explained():
                _manifest.write(path, manifest)
            self._lock = stack.pop_all()

    def __enter__(self) -> "Writer":
        """Return the writer."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Close the writer."""
        self.close()

    @property
    def next_epoch(self) -> int:
        """The first epoch that is not complete, counted from 0."""
        return len(self._manifest.epochs)

    @property
    def complete(self) -> bool:
        """Whether all epochs are recorded."""
        return self._manifest.complete

    def begin_epoch(self) -> None:
        """Begin the next epoch.

        Raises:
            InvalidInputError: If all epochs are complete.
            OSError: If its folder cannot be written.
        """
        self._discard()
        if self.complete:
            raise InvalidInputError(
                f"all {count(self._manifest.wanted_epochs, 'epoch')} of "
                f"{self.path} are recorded already",
                argument="epochs",
            )
        views = self._manifest.views
        target = self.path / _manifest.folder_of(views, self.next_epoch)
        with self._explained():
            self._epoch = Epoch(target, views.rows_per_epoch)

    def append(self, outputs: Mapping[str, Any], *, rows: Any = None) -> None:
        """Append the outputs for the next images of the epoch.

        The rows of clean images are the training rows in order. The rows of an
        augmented epoch are those of its batches, one after another; the last batch is
        complete, too.

        Args:
            outputs: Arrays by name: ``"logits"``, ``"embedding"``, ``"stages.0"``, ...,
                ``"preactivations.0"``, ...; with one row per image.
            rows: Row numbers of the images, optional. With augmentation they are
                stored, and training checks them: it then notices if another version of
                JAX draws another order.

        Raises:
            InvalidInputError: If the outputs or their shapes differ from the first
                ones, there are more rows than the epoch has, a value is not finite
                (minus infinity is allowed in logits) or exceeds float16, ``rows`` are
                not the expected ones, or the disk has too little space left.
            InvalidTypeError: If an output is not an array of floats.
            OSError: If the files cannot be written. The complete epochs remain usable.
        """
        epoch = self._epoch
        if epoch is None:
            raise InvalidInputError("call begin_epoch before append", argument=None)
        arrays = {
            name: check_values(name, x, epoch.count) for name, x in outputs.items()
        }
        number = _common_rows(arrays)
        expected = self._manifest.views.rows_per_epoch
        if epoch.count + number > expected:
            raise InvalidInputError(
                f"outputs has {epoch.count + number} rows for an epoch of {expected}",
                argument="outputs",
            )
        self._settle(arrays, rows)
        stored = self._checked_rows(rows, epoch.count, number)
        with self._explained():
            epoch.append(self._manifest.codecs(), arrays, stored)

    def end_epoch(self) -> None:
        """Complete the epoch: its files are on disk and listed in the manifest.

        Raises:
            InvalidInputError: If rows are missing.
            OSError: If the files cannot be written. The complete epochs remain usable.
        """
        epoch, expected = self._epoch, self._manifest.views.rows_per_epoch
        found = 0 if epoch is None else epoch.count
        if epoch is None or found != expected:
            raise InvalidInputError(
                f"outputs has {found} rows, but the epoch has {expected}",
                argument="outputs",
            )
        with self._explained():
            checksums = epoch.complete()
            deviations = {k: dict(v) for k, v in self._manifest.deviations.items()}
            for name, measured in epoch.deviations.items():
                merge(deviations.setdefault(name, {}), measured)
            manifest = dataclasses.replace(
                self._manifest,
                epochs=(*self._manifest.epochs, checksums),
                deviations=deviations,
            )
            _manifest.write(self.path, manifest)
        self._manifest, self._epoch = manifest, None

    def finish(self, classifier: Classifier | None = None) -> None:
        """Complete the recording.

        Args:
            classifier: The teacher's linear layer from embeddings to logits, for
                methods that reuse it.

        Raises:
            InvalidInputError: If epochs are missing.
        """
        if not self.complete:
            raise InvalidInputError(
                f"{self.path} has {count(self.next_epoch, 'complete epoch')} of "
                f"{self._manifest.wanted_epochs}. Record the others first.",
                argument="epochs",
            )
        if classifier is None:
            return
        buffer = io.BytesIO()
        kernel, bias = (np.asarray(x, np.float32) for x in classifier)
        np.savez(buffer, kernel=kernel, bias=bias)
        content = buffer.getvalue()
        manifest = dataclasses.replace(self._manifest, classifier=zlib.crc32(content))
        with self._explained():
            write_whole(self.path / _manifest.CLASSIFIER, content)
            _manifest.write(self.path, manifest)
        self._manifest = manifest

    def describe_teacher(self, teacher: Mapping[str, Any]) -> None:
        """Replace what the manifest says about the teacher.

        Args:
            teacher: Values of JSON.
        """
        manifest = dataclasses.replace(self._manifest, teacher=dict(teacher))
        check_settings(manifest)
        with self._explained():
            _manifest.write(self.path, manifest)
        self._manifest = manifest

    def close(self) -> None:
        """Remove what is not complete, and release the lock."""
        self._discard()
        self._lock.close()

    def _settle(self, arrays: dict[str, np.ndarray], rows: Any) -> None:
        """Compare the outputs with the first ones; the first ones are kept."""
        shapes = {name: x.shape[1:] for name, x in arrays.items()}
        known = self._manifest.outputs
        if known and shapes != known:
            raise InvalidInputError(
                f"outputs has {_listed(shapes)}, but the recording has "
                f"{_listed(known)}",
                argument="outputs",
            )
        if not known:
            ordered = rows is not None and not self._manifest.views.clean
            manifest = dataclasses.replace(
                self._manifest, outputs=shapes, ordered=ordered
            )
            check_settings(manifest)
            check_top_k(manifest)
            self._check_classes(shapes)
            self._manifest = manifest
        if not self._measured:
            self._check_space()
            self._measured = True

    def _check_classes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        logits, classes = shapes.get("logits"), len(self._manifest.class_names)
        if logits is not None and (len(logits) != 1 or logits[0] < classes):
            raise InvalidInputError(
                f"logits has rows of the shape {logits}, but there are {classes} "
                "classes, each of which needs a logit",
                argument="logits",
            )

    def _checked_rows(self, rows: Any, first: int, number: int) -> np.ndarray | None:
        """Return the row numbers to store, or None."""
        if rows is None and self._manifest.ordered:
            raise InvalidInputError(
                "rows must be given in every call of append, or in none",
                argument="rows",
            )
        if rows is None:
            return None
        found, views = np.asarray(rows), self._manifest.views
        expected = np.arange(first, first + number)
        inside = found.shape == (number,) and found.dtype.kind in "iu"
        inside = inside and found.min() >= 0 and found.max() < views.rows
        if not inside or (views.clean and not np.array_equal(found, expected)):
            wanted = (
                f"{first} to {first + number - 1}, in order, for clean images"
                if views.clean
                else f"{number} integers from 0 to {views.rows - 1}"
            )
            raise InvalidInputError(f"rows must be {wanted}", argument="rows")
        return found if self._manifest.ordered else None

    def _check_space(self) -> None:
        """Refuse a recording that the disk cannot hold, before hours of work."""
        manifest, rows = self._manifest, self._manifest.views.rows_per_epoch
        epoch = sum(_manifest.file_size(part, rows) for part in manifest.parts())
        needed = epoch * (manifest.wanted_epochs - self.next_epoch)
        try:
            free = shutil.disk_usage(self.path).free
        except OSError:
            return
        if 0 < free < needed:
            raise InvalidInputError(
                f"{self.path} needs {in_words(needed)} more, but its disk has "
                f"{in_words(free)} left. Make room, choose another --out, or record "
                "fewer epochs, float16 or the top k logits.",
                argument="path",
            )

    def _remove_leftovers(self) -> None:
        """Remove the files of epochs that the manifest does not list."""
        views = self._manifest.views
        listed = {_manifest.folder_of(views, i) for i in range(self.next_epoch)}
        for entry in self.path.iterdir():
            if EPOCH.fullmatch(entry.name) and entry.name not in listed:
                remove(entry)

    def _discard(self) -> None:
        if self._epoch is not None:
            epoch, self._epoch = self._epoch, None
            with contextlib.suppress(OSError):
                epoch.discard()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in an error of the operating system what remains of the recording."""
        try:
            yield
        except OSError as error:
            self._discard()
            reason = os.strerror(error.errno) if error.errno else str(error)
            kept = count(self.next_epoch, "complete epoch")
            raise OSError(
                error.errno or errno.EIO,
                f"cannot write {printable(str(self.path))} ({reason}). It keeps its "
                f"{kept}; the same command continues it when there is room",
            ) from error


def _common_rows(arrays: dict[str, np.ndarray]) -> int:
    if not arrays:
        raise InvalidInputError("outputs must hold at least one", argument="outputs")
    lengths = {name: len(x) for name, x in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(
            f"outputs must all have the same number of rows, got {lengths}",
            argument="outputs",
        )
    return next(iter(lengths.values()))


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
