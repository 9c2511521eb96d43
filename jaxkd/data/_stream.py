"""Images that are read when they are needed, through grain."""

import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError

_MOST_THREADS = 16
_READ_AHEAD = 2  # Batches that each thread or process has ready.


@runtime_checkable
class ImageSource(Protocol):
    """Images by row number. It must pickle if worker processes are to read it.

    Attributes:
        shape: Rows, height, width, channels.
    """

    shape: tuple[int, int, int, int]

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, Any]:
        """The images of some rows, uint8, and their labels or None."""
        ...


class _ArrayRows:
    """An array, perhaps a memory map, as a source."""

    def __init__(self, images: np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
            raise InvalidInputError(
                "images to stream must be a non-empty uint8 "
                f"[rows, height, width, channels], got {images.dtype} {images.shape}"
            )
        rows, height, width, channels = images.shape
        self.shape = (rows, height, width, channels)
        self._images = images

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, None]:
        """The images of some rows."""
        return np.asarray(self._images[np.asarray(rows)]), None


class Streamed:
    """The images of a split that are read, batch by batch, when they are needed.

    Takes the place of an array in :class:`jaxkd.data.Split`: training then reads the
    very batches that it would gather from an array on the device, in the same order.

    Args:
        source: Where the images are: an :class:`ImageSource`, or a uint8 array that
            may be memory-mapped.
        workers: Processes that read and decode training batches; 0 for threads of this
            process. They start anew from the main script, which must therefore be
            guarded by ``if __name__ == "__main__"``.
        rows: Which rows of the source, and in what order; all by default.
        statistics: Mean and standard deviation of each channel, if known.

    Raises:
        InvalidInputError: If an array is not one of images, or ``workers`` is negative.

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
    ):
        _checks.check_at_least(0, workers=workers)
        if isinstance(source, np.ndarray):
            source = _ArrayRows(source)
        self._source, self._rows = source, rows
        self.workers, self.statistics = workers, statistics
        count = source.shape[0] if rows is None else len(rows)
        self.shape = (count, *source.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Reads some rows, in this thread."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return self._source.read(self._in_source(rows))[0]

    def take(self, rows: np.ndarray) -> "Streamed":
        """Some of the rows, still to be read."""
        return Streamed(
            self._source, workers=self.workers, rows=self._in_source(np.asarray(rows))
        )

    def batches(
        self,
        rows: np.ndarray,
        *,
        shard: tuple[int, int] = (0, 1),
        workers: int | None = None,
    ) -> Any:
        """Reads batches in a given order, ahead of whoever takes them.

        Args:
            rows: Row numbers, ``[batches, batch]``.
            shard: ``(index, count)`` of hosts: each reads its own equal share of every
                batch, so that the hosts together have the whole one.
            workers: Processes to read with; the images' own number if None.

        Returns:
            A ``grain.DatasetIterator`` over ``(images, rows)``, with ``get_state``,
            ``set_state`` and ``close``.

        Raises:
            InvalidInputError: If the batch does not divide by the number of hosts.
                While iterating: if an image cannot be read.
        """
        index, count = shard
        size = rows.shape[1]
        if size % count or not 0 <= index < count:
            raise InvalidInputError(
                f"shard must be (index, count) with index below count and count a "
                f"divisor of the batch of {size}, got {shard}"
            )
        own = size // count
        rows = rows[:, index * own : (index + 1) * own]
        workers = self.workers if workers is None else workers
        batches = _Batches(self._source, self._in_source(rows), rows)
        return read_ahead(batches, workers)

    def _in_source(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._rows is None else self._rows[rows]


class _Batches:
    """Batch by number, for grain."""

    def __init__(self, source: ImageSource, in_source: np.ndarray, rows: np.ndarray):
        self._source, self._in_source, self._rows = source, in_source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        images, _ = self._source.read(self._in_source[number])
        return images, np.asarray(self._rows[number], np.int32)


def read_ahead(elements: Any, workers: int) -> Any:
    """Iterates over a sequence whose items take time, in threads or processes.

    Args:
        elements: Has ``len`` and ``[number]``; pickles if there are workers.
        workers: Processes; 0 for threads of this one.

    Returns:
        A ``grain.DatasetIterator``: items in order, whoever made them.
    """
    import grain  # Heavy, and only for what is streamed.

    threads = 1 if workers else min(_MOST_THREADS, os.cpu_count() or 1)
    dataset = grain.MapDataset.source(elements).to_iter_dataset(
        grain.ReadOptions(
            num_threads=threads, prefetch_buffer_size=_READ_AHEAD * threads
        )
    )
    if workers:
        from absl import flags

        # Grain reads its absl flags when it starts workers, and refuses to read flags
        # that no absl main has parsed; their defaults are what is wanted.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=_READ_AHEAD
            )
        )
    return iter(dataset)
