"""Build datasets from encoded images: decode them once into a cache, or stream them."""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data import _cache
from jaxkd.data._dataset import Split
from jaxkd.data._decode import DecodedRows, contents_digest, write_decoded
from jaxkd.data._normalize import histogram, statistics_of_histogram
from jaxkd.data._picture import DECODING, WHITE, checked_color
from jaxkd.data._range import checked_value_range, ranges_of_histogram
from jaxkd.data._stream import Streamed, read_ahead

_ROWS_AT_ONCE = 256


class Contents(NamedTuple):
    """Contents of a dataset on disk.

    Attributes:
        parts: Images of the splits ``train`` and ``test``.
        class_names: One name per class.
    """

    parts: dict[str, DecodedRows]
    class_names: list[str]


class Loading(NamedTuple):
    """Settings for loading encoded images.

    Attributes:
        cache_dir: Folder of the cache, or None for the default.
        image_size: Height and width to resize images to, or None to keep their size.
        stream: Whether to read each image when it is needed.
        workers: Number of processes that read streamed images.
        background: Color behind transparent pixels, ``#rrggbb``.
        value_range: Values of black and white in arrays, or None for the usual ones.
    """

    cache_dir: Any = None
    image_size: int | None = None
    stream: bool = False
    workers: int = 0
    background: str = WHITE
    value_range: tuple[float, float] | None = None

    @classmethod
    def checked(
        cls,
        cache_dir: Any,
        image_size: int | None,
        stream: bool,
        workers: int,
        background: str,
        value_range: Any,
    ) -> "Loading":
        """Check the settings and return them.

        Raises:
            InvalidInputError: If a setting is out of range, or ``workers`` is given
                without ``stream``.
        """
        if image_size is not None:
            _checks.check_at_least(1, image_size=image_size)
        _checks.check_at_least(0, workers=workers)
        if workers and not stream:
            raise InvalidInputError(
                f"workers (--workers) only read streamed images: got {workers} without "
                "stream (--stream)",
                argument="workers",
            )
        color = checked_color(background)
        if value_range is not None:
            value_range = checked_value_range(value_range)
        return cls(cache_dir, image_size, stream, workers, color, value_range)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to resize to, or None."""
        return None if self.image_size is None else (self.image_size, self.image_size)

    @property
    def fingerprint(self) -> str:
        """Part of the dataset's fingerprint that depends on the settings."""
        size = "" if self.image_size is None else f", size {self.image_size}"
        return size + (
            "" if self.background == WHITE else f", background {self.background}"
        )

    def folder(self, key: str, digest: Any) -> Path:
        """Return the cache folder of a dataset.

        Args:
            key: Readable beginning of the folder's name.
            digest: Hash of the dataset's contents; updated with the settings.
        """
        digest.update(DECODING.encode())
        if self.background != WHITE:
            digest.update(f"background {self.background}".encode())
        if self.image_size is not None:
            digest.update(f"size {self.image_size}".encode())
            key += f"-{self.image_size}"
        name = f"{key}-{digest.hexdigest()[:12]}"
        return _cache.cache_root(self.cache_dir) / "datasets" / name


class Assembled(NamedTuple):
    """Both splits and the cached metadata."""

    train: Split
    test: Split
    metadata: dict[str, Any]


def assemble(
    open_contents: Callable[[], Contents],
    metadata: dict[str, Any],
    folder: Path,
    loading: Loading,
) -> Assembled:
    """Return both splits from the cache, which is written first if it does not exist.

    Args:
        open_contents: Opens the dataset; not called if the cache is complete.
        metadata: Entries to store in the cache in addition to ``class_names``.
        folder: Folder of the decoded images. The index for streaming is stored in a
            folder beside it.
        loading: Settings.

    Returns:
        The splits and the cached metadata.

    Raises:
        InvalidInputError: If an image cannot be used or the cache cannot be written.
    """
    if not loading.stream:
        if not folder.is_dir():
            contents = open_contents()
            metadata = {**metadata, "class_names": contents.class_names}
            write_decoded(contents.parts, metadata, folder)
        metadata, arrays = _cache.read_folder(folder)
        train, test = (
            Split(arrays[f"{part}-images"], arrays[f"{part}-labels"])
            for part in ("train", "test")
        )
        return Assembled(train, test, metadata)

    contents = open_contents()
    index = folder.with_name(f"{folder.name}-index")
    if not index.is_dir():
        metadata = {**metadata, "class_names": contents.class_names}
        _write_index(contents.parts, metadata, index, loading.workers)
    metadata, arrays = _cache.read_folder(index)

    def split(part: str) -> Split:
        rows, values = contents.parts[part], arrays[f"{part}-histogram"]
        images = Streamed(
            rows,
            workers=loading.workers,
            statistics=statistics_of_histogram(values, math.prod(rows.shape[:3])),
            ranges=ranges_of_histogram(values),
        )
        return Split(images, np.array(arrays[f"{part}-labels"]))

    return Assembled(split("train"), split("test"), metadata)


def _write_index(
    parts: dict[str, DecodedRows],
    metadata: dict[str, Any],
    target: Path,
    workers: int,
) -> None:
    """Read every image once; write the labels and histograms that streaming needs."""
    files, digests = {}, {}
    with _cache.new_folder(target) as folder:
        for part, rows in parts.items():
            labels, total, own = _labels_and_histogram(rows, part, workers)
            digests[part] = own + labels.tobytes()
            for name, array in (("labels", labels), ("histogram", total)):
                files[f"{part}-{name}"] = _cache.write_array(
                    folder / f"{part}-{name}.npy", array.shape, array.dtype, [array]
                )
        contents = contents_digest(metadata["class_names"], digests)
        _cache.write_metadata(
            folder, {**metadata, "contents": contents, "files": files}
        )


def _labels_and_histogram(
    rows: DecodedRows, part: str, workers: int
) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Read all rows; return labels, the histogram of each channel, and hashes."""
    from rich.console import Console
    from rich.progress import Progress

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
        self._rows = rows

    def __len__(self) -> int:
        return -(-self._rows.shape[0] // _ROWS_AT_ONCE)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start = number * _ROWS_AT_ONCE
        stop = min(start + _ROWS_AT_ONCE, self._rows.shape[0])
        rows = range(start, stop)
        images, labels, digests = self._rows.read_with_digests(rows)
        # Grain passes arrays between processes.
        return labels, histogram(images), np.frombuffer(digests, np.uint8)


def digest_of(parts: Sequence[bytes | str]) -> Any:
    """Start the hash of a cache key from parts; each part is preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(content)}:".encode() + content)
    return digest
