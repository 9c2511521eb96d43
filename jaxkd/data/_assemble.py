"""Build datasets from encoded images: decode them once into a cache, or stream them."""

import hashlib
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._messages import withdraw
from jaxkd.data import _cache
from jaxkd.data._broken import all_broken_listed
from jaxkd.data._dataset import ImageDataset, Split
from jaxkd.data._decode import (
    DecodedRows,
    Encoded,
    FrameNotice,
    rows_at_once,
    write_decoded,
    write_metadata,
)
from jaxkd.data._description import Description, describe_source, doubts_about_rows
from jaxkd.data._normalize import histogram, statistics_of_histogram
from jaxkd.data._picture import DECODING, WHITE, checked_color
from jaxkd.data._plan import Plan, UnlabeledSplitWarning, make_plan, with_labeled_test
from jaxkd.data._range import checked_value_range, ranges_of_histogram
from jaxkd.data._slices import parse
from jaxkd.data._source import Source
from jaxkd.data._stream import Streamed, read_ahead

_ROWS_AT_ONCE = 256
_LARGEST_SIZE = 8192


class Loading(NamedTuple):
    """Settings for loading encoded images.

    Attributes:
        cache_dir: Folder of the cache, or None for the default.
        image_size: Height and width to resize images to, or None to keep their size.
        stream: Whether to read each image when it is needed.
        workers: Number of processes that read streamed images.
        background: Color behind transparent pixels, ``#rrggbb``.
        value_range: Values of black and white in arrays, or None for the usual ones.
        train_split: Rows to train on, or None for the split ``train``.
        test_split: Rows to test on, or None for the default split.
        test_resize: Length that the shorter side of test images is scaled to before
            they are cropped to ``image_size``; None to crop as little as possible.
    """

    cache_dir: Any = None
    image_size: int | None = None
    stream: bool = False
    workers: int = 0
    background: str = WHITE
    value_range: tuple[float, float] | None = None
    train_split: str | None = None
    test_split: str | None = None
    test_resize: int | None = None

    def checked(self) -> "Loading":
        """Check the settings and return them.

        Raises:
            InvalidInputError: If a setting is out of range, ``workers`` is given
                without ``stream``, or ``test_resize`` without ``image_size``.
        """
        size = self.image_size
        if size is not None:
            _checks.check_at_least(1, image_size=size)
            if size > _LARGEST_SIZE:
                raise InvalidInputError(
                    f"image_size must be at most {_LARGEST_SIZE}, got {size}",
                    argument="image_size",
                )
            size = int(size)  # NumPy's integers are not written to JSON.
        test_resize = self.test_resize
        if test_resize is not None:
            test_resize = _checked_test_resize(test_resize, size)
        _checks.check_at_least(0, workers=self.workers)
        if self.workers and not self.stream:
            raise InvalidInputError(
                f"workers (--workers) only read streamed images: got {self.workers} "
                "without stream (--stream)",
                argument="workers",
            )
        range_ = self.value_range
        return self._replace(
            image_size=size,
            background=checked_color(self.background),
            value_range=None if range_ is None else checked_value_range(range_),
            test_resize=test_resize,
        )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to resize to, or None."""
        return None if self.image_size is None else (self.image_size, self.image_size)

    @property
    def fingerprint(self) -> str:
        """Part of the dataset's fingerprint that depends on the settings."""
        size = "" if self.image_size is None else f", size {self.image_size}"
        if self.test_resize is not None:
            size += f", test images resized to {self.test_resize}"
        return size + (
            "" if self.background == WHITE else f", background {self.background}"
        )

    def folder(self, key: str, digest: Any, rows: str) -> Path:
        """Return the cache folder of a dataset.

        Args:
            key: Readable beginning of the folder's name.
            digest: Hash of the dataset's contents; updated with the settings.
            rows: The chosen rows; empty for the default ones.
        """
        digest.update(DECODING.encode())
        digest.update(rows.encode("utf-8", "surrogateescape"))
        if self.background != WHITE:
            digest.update(f"background {self.background}".encode())
        if self.image_size is not None:
            digest.update(f"size {self.image_size}".encode())
            key += f"-{self.image_size}"
        if self.test_resize is not None:
            digest.update(f"test resize {self.test_resize}".encode())
        name = f"{key}-{digest.hexdigest()[:12]}"
        return _cache.cache_root(self.cache_dir) / "datasets" / name


def _checked_test_resize(length: int, image_size: int | None) -> int:
    _checks.check_at_least(1, test_resize=length)
    if image_size is None:
        raise InvalidInputError(
            f"test_resize is {length}, but without image_size (--image-size) nothing "
            "is cropped; give both, such as 256 and 224",
            argument="test_resize",
        )
    if not image_size <= length <= _LARGEST_SIZE:
        raise InvalidInputError(
            f"test_resize must be at least {image_size}, the size of the crop "
            f"(--image-size), and at most {_LARGEST_SIZE}, got {length}",
            argument="test_resize",
        )
    return int(length)


def load_source(source: Source, loading: Loading) -> ImageDataset:
    """Load a source: decode its images once into the cache, or stream them.

    Raises:
        InvalidInputError: If an image or a label cannot be used, or the cache cannot be
            written.
    """
    plan = make_plan(source, loading.train_split, loading.test_split)
    if not source.labels_are_slow:
        plan = with_labeled_test(source, plan)
    stamp, key = source.stamp(plan.parts), source.cache_name()
    records = loading._replace(image_size=None, test_resize=None).folder(
        key, stamp.copy(), plan.fingerprint
    )
    folder = loading.folder(key, stamp, plan.fingerprint)
    if loading.stream:
        records = records.with_name(f"{records.name}-records")
        opened = _streamed(source, plan, folder, records, loading)
    else:
        opened = _decoded(source, plan, folder, loading)
    train, test, metadata, plan = opened
    class_names = metadata["class_names"]
    doubts = doubts_about_rows(
        source.notes(plan.splits), plan, class_names, train.labels, test.labels
    )
    if plan.warning is not None:
        warnings.warn(plan.warning, UnlabeledSplitWarning, stacklevel=3)
    return ImageDataset(
        name=source.name,
        train=train,
        test=test,
        num_classes=len(class_names),
        class_names=tuple(class_names),
        augmentation=source.augmentation(train.images.shape[1:]),
        fingerprint=source.fingerprint(metadata["contents"])
        + loading.fingerprint
        + plan.fingerprint,
        doubts=(*doubts, *metadata.get("repeated", ())),
    )


class _Opened(NamedTuple):
    """Both splits, the cached metadata, and the plan with the final test rows."""

    train: Split
    test: Split
    metadata: dict[str, Any]
    plan: Plan


def _decoded(source: Source, plan: Plan, folder: Path, loading: Loading) -> _Opened:
    """Return both splits from the cache, which is written first if there is none."""
    if not folder.is_dir():
        settled = with_labeled_test(source, plan)
        description = describe_source(source, settled, slow_labels=("test",))
        with all_broken_listed(description):
            parts = _parts(description, loading)
            write_decoded(parts, _metadata(description, settled), folder)
    metadata, arrays = _cache.read_folder(folder)
    train, test = (
        Split(arrays[f"{part}-images"], arrays[f"{part}-labels"])
        for part in ("train", "test")
    )
    return _Opened(train, test, metadata, _as_stored(plan, metadata))


def _streamed(
    source: Source, plan: Plan, folder: Path, records: Path, loading: Loading
) -> _Opened:
    """Return streamed splits; their labels and statistics are kept beside the cache."""
    index = folder.with_name(f"{folder.name}-index")
    if index.is_dir():
        plan = _as_stored(plan, _cache.read_folder(index)[0])
        description = describe_source(source, plan)
    else:
        plan = with_labeled_test(source, plan)
        description = describe_source(source, plan, slow_labels=("test",))
    with all_broken_listed(description):
        images = {
            part: selected
            for part in ("train", "test")
            if (selected := getattr(description, part).images) is not None
        }
        parts = _parts(description, loading, source.for_streaming(images, records))
        if not index.is_dir():
            metadata = _metadata(description, plan)
            write_index(parts, metadata, index, loading.workers)
    metadata, arrays = _cache.read_folder(index)

    def split(part: str) -> Split:
        rows, values = parts[part], arrays[f"{part}-histogram"]
        images = Streamed(
            rows,
            workers=loading.workers,
            statistics=statistics_of_histogram(values, math.prod(rows.shape[:3])),
            ranges=ranges_of_histogram(values),
            histogram=np.array(values),
        )
        return Split(images, np.array(arrays[f"{part}-labels"]))

    return _Opened(split("train"), split("test"), metadata, plan)


def _parts(
    description: Description,
    loading: Loading,
    images: Mapping[str, Encoded] | None = None,
) -> dict[str, DecodedRows]:
    """Return the images of both parts, decoded when they are read."""
    channels = description.decoded_channels()
    if images is None:
        chosen = {"train": description.train, "test": description.test}
        images = {part: rows.images for part, rows in chosen.items() if rows.images}
    frames = FrameNotice()
    return {
        part: DecodedRows(
            encoded,
            channels,
            loading.size,
            loading.background,
            frames,
            shorter_side=loading.test_resize if part == "test" else None,
        )
        for part, encoded in images.items()
    }


def _metadata(description: Description, plan: Plan) -> dict[str, Any]:
    """Return the entries of the cache's metadata that describe the dataset."""
    return {
        "name": description.name,
        "class_names": list(description.class_names),
        "test": str(plan.test),
        "warning": plan.warning,
    }


def _as_stored(plan: Plan, metadata: dict[str, Any]) -> Plan:
    """Return the plan with the test rows that were chosen when the cache was made."""
    if plan.is_chosen or plan.warning or metadata.get("warning") is None:
        return plan
    test = parse(metadata["test"], "test_split")
    return plan._replace(test=test, warning=metadata["warning"])


def write_index(
    parts: dict[str, DecodedRows],
    metadata: dict[str, Any],
    target: Path,
    workers: int,
) -> None:
    """Read every image once; write the labels and histograms that streaming needs."""
    files, hashes, classes = {}, {}, {}
    with _cache.new_folder(target) as folder:
        for part, rows in parts.items():
            labels, total, hashes[part] = _labels_and_histogram(rows, part, workers)
            classes[part] = labels
            for name, array in (("labels", labels), ("histogram", total)):
                files[f"{part}-{name}"] = _cache.write_array(
                    folder / f"{part}-{name}.npy", array.shape, array.dtype, [array]
                )
        write_metadata(folder, metadata, files, hashes, classes)


def _labels_and_histogram(
    rows: DecodedRows, part: str, workers: int
) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Read all rows; return their labels, histogram of each channel, and hashes."""
    from rich.console import Console
    from rich.progress import Progress

    withdraw()
    console = Console(stderr=True)
    chunks = _ChunkStatistics(rows)
    labels, digests, total = [], [], np.zeros((rows.shape[-1], 256), np.int64)
    iterator = read_ahead(chunks, workers)
    try:
        with Progress(
            console=console, transient=True, disable=not console.is_terminal
        ) as progress:
            task = progress.add_task(f"Reading {part}", total=len(chunks))
            for own, values, hashes in iterator:
                labels.append(np.array(own))
                digests.append(np.array(hashes).tobytes())
                total += values
                progress.advance(task)
    finally:
        iterator.close()
    return np.concatenate(labels), total, b"".join(digests)


class _ChunkStatistics:
    """Labels, histograms and hashes of chunks of rows, as grain reads them."""

    def __init__(self, rows: DecodedRows):
        self._rows, self._step = rows, rows_at_once(rows.shape, _ROWS_AT_ONCE)

    def __len__(self) -> int:
        return -(-self._rows.shape[0] // self._step)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start = number * self._step
        stop = min(start + self._step, self._rows.shape[0])
        rows = range(start, stop)
        images, labels, digests = self._rows.read_with_digests(rows)
        # Grain passes arrays between processes.
        return labels, histogram(images), np.frombuffer(digests, np.uint8)


def digest_of(parts: Sequence[bytes | str]) -> Any:
    """Start the hash of a cache key from parts; each part is preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = os.fsencode(part) if isinstance(part, str) else part
        digest.update(f"{len(content)}:".encode() + content)
    return digest
