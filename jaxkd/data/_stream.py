"""Images that grain reads when they are needed."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError

_MAX_THREADS = 16
_READ_AHEAD = 2  # Batches that each thread or process reads in advance.


@runtime_checkable
class ImageSource(Protocol):
    """Images, read by row number. Must be picklable if worker processes read it.

    Attributes:
        shape: Rows, height, width, channels.
    """

    shape: tuple[int, int, int, int]

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the images of some rows, uint8, and their labels or None."""
        ...


class _ArrayRows:
    """Source of images in an array, which may be memory-mapped."""

    def __init__(self, images: np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
            raise InvalidInputError(
                "source must be a non-empty uint8 array "
                f"[rows, height, width, channels], got {images.dtype} {images.shape}",
                argument="source",
            )
        rows, height, width, channels = images.shape
        self.shape = (rows, height, width, channels)
        self._images = images

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, None]:
        """Return the images of some rows."""
        return np.asarray(self._images[np.asarray(rows)]), None


class Streamed:
    """Images of a split that are read, batch by batch, when they are needed.

    It replaces an array in :class:`jaxkd.data.Split`. Training then reads the same
    batches in the same order as it would gather from an array on the device.

    Args:
        source: An :class:`ImageSource`, or a uint8 array, which may be memory-mapped.
        workers: Number of processes that read and decode training batches; 0 for
            threads of this process. Worker processes import the main script again, so
            it must be guarded by ``if __name__ == "__main__"``.
        rows: Row numbers of the source to use, in order; all by default.
        statistics: Mean and standard deviation of each channel, if known.
        ranges: Smallest and largest value of each channel, if known.
        histogram: How often each channel has each value, if known.

    Raises:
        InvalidInputError: If an array does not contain images, or ``workers`` is
            negative.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> images = data.Streamed(np.zeros((10, 8, 8, 1), np.uint8))
        >>> images.shape, images[2:5].shape
        ((10, 8, 8, 1), (3, 8, 8, 1))
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        source: ImageSource | np.ndarray,
        *,
        workers: int = 0,
        rows: np.ndarray | None = None,
        statistics: tuple[Any, Any] | None = None,
        ranges: tuple[Any, Any] | None = None,
        histogram: np.ndarray | None = None,
    ):
        _checks.check_at_least(0, workers=workers)
        if isinstance(source, np.ndarray):
            source = _ArrayRows(source)
        self._source, self._rows = source, rows
        self.workers, self.statistics, self.ranges = workers, statistics, ranges
        self.histogram = histogram
        count = source.shape[0] if rows is None else len(rows)
        self.shape = (count, *source.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read some rows in this thread."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return _read(self._source, self._in_source(rows))

    def take(self, rows: np.ndarray) -> "Streamed":
        """Select rows without reading them."""
        return Streamed(
            self._source, workers=self.workers, rows=self._in_source(np.asarray(rows))
        )

    def batches(self, rows: np.ndarray, *, workers: int | None = None) -> Any:
        """Read batches in a given order, in advance of their use.

        Args:
            rows: Row numbers, ``[batches, batch]``.
            workers: Number of processes that read; ``self.workers`` if None.

        Returns:
            A ``grain.DatasetIterator`` over ``(images, rows)``, with ``get_state``,
            ``set_state`` and ``close``.

        Raises:
            InvalidInputError: While iterating, if an image cannot be read.
        """
        workers = self.workers if workers is None else workers
        batches = _Batches(self._source, self._in_source(rows), rows)
        return read_ahead(batches, workers)

    def _in_source(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._rows is None else self._rows[rows]


def chunks(images: np.ndarray | Streamed) -> Iterator[np.ndarray]:
    """Yield consecutive rows, about a million values at a time."""
    rows = max(1, 2**20 // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def _read(source: ImageSource, rows: Any) -> np.ndarray:
    """Read rows; raise if their shape or dtype is not that of the source."""
    images, _ = source.read(rows)
    images = np.asarray(images)
    expected = (len(rows), *source.shape[1:])
    if images.dtype != np.uint8 or images.shape != expected:
        raise InvalidInputError(
            f"the source of streamed images must return uint8 {expected}, got "
            f"{images.dtype} {images.shape}: scale images to 0 to 255, and convert "
            "them with astype(np.uint8)",
            argument="source",
        )
    return images


class _Batches:
    """Batches of images, as a sequence that grain reads."""

    def __init__(self, source: ImageSource, in_source: np.ndarray, rows: np.ndarray):
        self._source, self._in_source, self._rows = source, in_source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        images = _read(self._source, self._in_source[number])
        return images, np.asarray(self._rows[number], np.int32)


def read_ahead(elements: Any, workers: int) -> Any:
    """Iterate over a sequence, computing its items in advance in threads or processes.

    Args:
        elements: Sequence with ``len`` and ``[number]``; picklable if there are
            workers.
        workers: Number of processes; 0 for threads of this process.

    Returns:
        A ``grain.DatasetIterator`` over the items in order.
    """
    import grain  # Slow to import, and needed for streamed images only.

    threads = 1 if workers else min(_MAX_THREADS, os.cpu_count() or 1)
    dataset = grain.MapDataset.source(elements).to_iter_dataset(
        grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=_READ_AHEAD * threads
        )
    )
    if workers:
        from absl import flags

        # Grain reads its absl flags when it starts workers, and raises if they have not
        # been parsed. Marking them as parsed selects their defaults.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=_READ_AHEAD
            )
        )
    return iter(dataset)
