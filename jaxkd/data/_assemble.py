"""A dataset from encoded images: decoded once into a cache, or streamed."""

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
from jaxkd.data._decode import DecodedRows, write_decoded
from jaxkd.data._normalize import histogram, statistics_of_histogram
from jaxkd.data._stream import Streamed, read_ahead

_ROWS_AT_ONCE = 256


class Contents(NamedTuple):
    """What a dataset on disk holds.

    Attributes:
        parts: ``train`` and ``test``.
        class_names: One per class.
    """

    parts: dict[str, DecodedRows]
    class_names: list[str]


class Loading(NamedTuple):
    """How to load encoded images.

    Attributes:
        cache_dir: Folder of the cache, or None for the default.
        image_size: Height and width to bring images to, if any.
        stream: Whether to read images when they are needed.
        workers: Processes that read them then.
    """

    cache_dir: Any = None
    image_size: int | None = None
    stream: bool = False
    workers: int = 0

    @classmethod
    def checked(
        cls, cache_dir: Any, image_size: int | None, stream: bool, workers: int
    ) -> "Loading":
        """Checks the settings.

        Raises:
            InvalidInputError: If they do not go together or are out of range.
        """
        if image_size is not None:
            _checks.check_at_least(1, image_size=image_size)
        _checks.check_at_least(0, workers=workers)
        if workers and not stream:
            raise InvalidInputError(
                f"workers (--workers) read streamed images: got {workers} without "
                "stream (--stream)"
            )
        return cls(cache_dir, image_size, stream, workers)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width."""
        return None if self.image_size is None else (self.image_size, self.image_size)

    @property
    def fingerprint(self) -> str:
        """What the size adds to a dataset's fingerprint."""
        return "" if self.image_size is None else f", size {self.image_size}"

    def folder(self, key: str, digest: Any) -> Path:
        """The cache's folder for a dataset of this key and contents."""
        if self.image_size is not None:
            digest.update(f"size {self.image_size}".encode())
            key += f"-{self.image_size}"
        name = f"{key}-{digest.hexdigest()[:12]}"
        return _cache.cache_root(self.cache_dir) / "datasets" / name


class Assembled(NamedTuple):
    """The two splits and what the cache says of them."""

    train: Split
    test: Split
    metadata: dict[str, Any]


def assemble(
    open_contents: Callable[[], Contents],
    metadata: dict[str, Any],
    folder: Path,
    loading: Loading,
) -> Assembled:
    """Splits from the cache, which is filled first if need be.

    Args:
        open_contents: Opens the dataset; not called if the cache has all it takes.
        metadata: To keep in the cache beside ``class_names``.
        folder: Of the decoded images; what streaming needs is beside it.
        loading: How to load.

    Raises:
        InvalidInputError: If an image cannot be used, or the cache not be written.
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
        statistics = statistics_of_histogram(values, math.prod(rows.shape[:3]))
        images = Streamed(rows, workers=loading.workers, statistics=statistics)
        return Split(images, np.array(arrays[f"{part}-labels"]))

    return Assembled(split("train"), split("test"), metadata)


def _write_index(
    parts: dict[str, DecodedRows],
    metadata: dict[str, Any],
    target: Path,
    workers: int,
) -> None:
    """Looks at every image once: what streaming has to know before the first step."""
    files = {}
    with _cache.new_folder(target) as folder:
        for part, rows in parts.items():
            labels, total = _look_through(rows, part, workers)
            for name, array in (("labels", labels), ("histogram", total)):
                files[f"{part}-{name}"] = _cache.write_array(
                    folder / f"{part}-{name}.npy", array.shape, array.dtype, [array]
                )
        _cache.write_metadata(folder, {**metadata, "files": files})


def _look_through(
    rows: DecodedRows, part: str, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all rows, and how often each value occurs in each channel."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    looks = _Looks(rows)
    labels, total = [], np.zeros((rows.shape[-1], 256), np.int64)
    iterator = read_ahead(looks, workers)
    try:
        with Progress(
            console=console, transient=True, disable=not console.is_terminal
        ) as progress:
            task = progress.add_task(f"Looking through {part}", total=len(looks))
            for own, values in iterator:
                labels.append(np.array(own))
                total += values
                progress.advance(task)
    finally:
        iterator.close()
    return np.concatenate(labels), total


class _Looks:
    """Labels and histogram of some rows by number, for grain."""

    def __init__(self, rows: DecodedRows):
        self._rows = rows

    def __len__(self) -> int:
        return -(-self._rows.shape[0] // _ROWS_AT_ONCE)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        start = number * _ROWS_AT_ONCE
        stop = min(start + _ROWS_AT_ONCE, self._rows.shape[0])
        images, labels = self._rows.read(range(start, stop))
        return labels, histogram(images)


def digest_of(parts: Sequence[bytes | str]) -> Any:
    """The beginning of a cache key; unlike parts never meet."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(content)}:".encode() + content)
    return digest
