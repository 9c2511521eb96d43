"""Record a teacher of any framework, from its outputs for clean images."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd._messages import say
from jaxkd.data import ImageDataset
from jaxkd.distillers import Classifier
from jaxkd.recordings import _manifest
from jaxkd.recordings._create import create
from jaxkd.recordings._epoch import remove
from jaxkd.recordings._recording import Recording
from jaxkd.recordings._recording import open as open_recording
from jaxkd.recordings._views import Views
from jaxkd.recordings._writer import EPOCH, lock_of

_CHUNK = 1024  # rows of an array that are converted at a time

Chunks = Any
"""An array with one row per image, or an iterable of such arrays for some images."""


def write(
    path: str | os.PathLike,
    dataset: ImageDataset,
    *,
    logits: Chunks = None,
    embedding: Chunks = None,
    batches: Iterable[Mapping[str, Any]] | None = None,
    classifier: Classifier | None = None,
    teacher: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    top_k: int | None = None,
    load_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Recording:
    """Record a teacher of any framework, from its outputs for the training images.

    The rows are those of ``dataset.train``, in its order, without augmentation. A
    recording of clean images is for training without augmentation; for augmented
    images, use :func:`create`.

    Args:
        path: Folder of the recording, which is absent or empty. After an error it is as
            before.
        dataset: The dataset whose training images the teacher saw.
        logits: Logits ``[rows, classes]`` as an array, or an iterable of arrays with
            the next rows each. NumPy converts them, so tensors of other frameworks on
            the CPU are fine. There may be more logits than classes.
        embedding: Embeddings ``[rows, features]``, in the same way. Iterables must
            yield as many rows at a time as those of the logits.
        batches: In place of both: an iterable of dicts with the next rows of all
            outputs, by the names ``"logits"``, ``"embedding"``, ``"stages.0"``, ...,
            ``"preactivations.0"``, ..., and of layers that methods name, such as
            ``"path=blocks.2"``.
        classifier: The teacher's linear layer from embeddings to logits, if known.
        teacher: What to remember about the teacher, in values of JSON.
        dtype: ``"float32"`` or ``"float16"``; see :func:`create`.
        top_k: Number of logits to store, or None for all; see :func:`create`.
        load_options: How the dataset was loaded.
        overwrite: Whether to replace an existing recording. Anything else in the folder
            is never replaced.

    Returns:
        The recording, open for reading. Its ``teacher`` has the accuracy of the logits
        on the training images, ``train_accuracy``. A message is printed if it is so low
        that the rows are probably in another order.

    Raises:
        InvalidInputError: If there are too few or too many rows, fewer logits than
            classes, values that are not finite, or something else in the folder.
        InvalidTypeError: If an output cannot be converted to an array of floats.
        OSError: If the files cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxkd import data, recordings
        >>> dataset, folder = data.load("digits"), tempfile.mkdtemp()
        >>> logits = 5 * np.eye(10, dtype=np.float32)[dataset.train.labels]
        >>> recordings.write(folder, dataset, logits=logits).teacher
        {'train_accuracy': 1.0}
    """
    path = expand_home(path, "path").resolve()
    _check_target(path, overwrite=overwrite)
    rows = len(dataset.train.labels)
    chunks = _aligned(rows, batches, {"logits": logits, "embedding": embedding})
    views = Views.of(dataset, epochs=0, batch_size=min(_CHUNK, rows), data_seed=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".jaxkd-tmp-{token_hex(8)}")
    accuracy = _Accuracy(dataset)
    try:
        with create(
            aside,
            views,
            class_names=dataset.class_names,
            dtype=dtype,
            top_k=top_k,
            load_options=load_options,
        ) as writer:
            writer.begin_epoch()
            for chunk in chunks:
                writer.append(chunk)
                accuracy.add(chunk)
            writer.end_epoch()
            writer.finish(classifier)
            found = accuracy.result()
            writer.describe_teacher({**(teacher or {}), **found})
        (aside / "lock").unlink()
        _replace(path, aside)
    finally:
        remove(aside)
    return open_recording(path)


def _aligned(
    rows: int, batches: Iterable[Mapping[str, Any]] | None, given: Mapping[str, Chunks]
) -> Iterator[Mapping[str, Any]]:
    """Yield the next rows of all outputs."""
    outputs = {name: x for name, x in given.items() if x is not None}
    if batches is not None:
        if outputs:
            raise InvalidInputError(
                f"batches and {next(iter(outputs))} are both given; put all outputs "
                "into batches",
                argument="batches",
            )
        return iter(batches)
    if not outputs:
        raise InvalidInputError("logits must be given, or batches", argument="logits")
    arrays = {name: x for name, x in outputs.items() if _is_array(x)}
    for name, array in arrays.items():
        if len(array) != rows:
            raise InvalidInputError(
                f"{name} has {len(array):,} rows, but dataset.train has {rows:,}: one "
                "row for each training image, in order",
                argument=name,
            )
    streams = {name: iter(x) for name, x in outputs.items() if name not in arrays}
    return _zipped(rows, arrays, streams)


def _zipped(
    rows: int, arrays: dict[str, Any], streams: dict[str, Iterator[Any]]
) -> Iterator[Mapping[str, Any]]:
    start = 0
    while start < rows or streams:
        chunk = {name: next(stream, None) for name, stream in streams.items()}
        ended = [name for name, x in chunk.items() if x is None]
        if len(ended) < len(streams) and ended:
            raise InvalidInputError(
                f"{ended[0]} has {start:,} rows, but other outputs have more",
                argument=ended[0],
            )
        if ended:
            return
        size = min((len(np.asarray(x)) for x in chunk.values()), default=_CHUNK)
        parts = {name: array[start : start + size] for name, array in arrays.items()}
        yield {**parts, **chunk}
        start += size


def _is_array(given: Any) -> bool:
    return hasattr(given, "shape") and hasattr(given, "__len__")


class _Accuracy:
    """The accuracy of the logits on the training images, chunk by chunk."""

    def __init__(self, dataset: ImageDataset):
        self._dataset, self._correct, self._seen, self._labeled = dataset, 0, 0, 0

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Add the next rows."""
        if "logits" not in chunk:
            return
        logits = np.asarray(chunk["logits"])
        labels = self._dataset.train.labels[self._seen : self._seen + len(logits)]
        self._correct += int(np.sum(logits.argmax(-1) == labels))
        self._labeled += int(np.sum(labels >= 0))
        self._seen += len(logits)

    def result(self) -> dict[str, float]:
        """Return the accuracy by its name; say so if it is that of a guess."""
        if not self._labeled:
            return {}
        accuracy = self._correct / self._labeled
        if accuracy < 1.5 / self._dataset.num_classes:
            say(
                f"the logits are right for only {accuracy:.1%} of the training images "
                f"of {self._dataset.name}. Check that their rows are in the order of "
                "dataset.train: not shuffled, and with the same class numbers."
            )
        return {"train_accuracy": accuracy}


def _check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder with anything but a recording that may be replaced."""
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise InvalidInputError(
            f"path is {path}, which is not a folder. Choose another.", argument="path"
        )
    lock = lock_of(path)
    ours = {_manifest.FILE, _manifest.CLASSIFIER, lock.file.name}
    names = [entry.name for entry in path.iterdir()]
    if any(name not in ours and not EPOCH.fullmatch(name) for name in names):
        raise InvalidInputError(
            f"path is {path}, which contains something else. Choose another.",
            argument="path",
        )
    if _manifest.FILE in names:
        _manifest.read(path)
        if not overwrite:
            raise InvalidInputError(
                f"path is {path}, which already contains a recording. Choose another, "
                "or pass overwrite=True.",
                argument="path",
            )
    lock.check_free()


def _replace(path: Path, new: Path) -> None:
    """Put a complete recording in the place of what is there."""
    old = path.with_name(f".jaxkd-tmp-{token_hex(8)}")
    if os.path.lexists(path):
        path.rename(old)
    new.rename(path)
    remove(old)
