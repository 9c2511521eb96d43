"""Batches from the host: what a step is fed when the images are streamed."""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from jaxkd.data import Streamed, steps_per_epoch
from jaxkd.training._placement import ONE_DEVICE, Placement

# Workers are started once per block of epochs, and are sent its order in int32.
_MOST_ROWS = 2**22
_MOST_EPOCHS = 16
_AHEAD = 2


class HostBatch(NamedTuple):
    """A batch on its way to the device.

    Attributes:
        images: As stored.
        rows: Their row numbers.
    """

    images: Shaped[Array, "*steps batch height width channels"]
    rows: Int[Array, "*steps batch"]


class Feed:
    """The batches of a training run, read and put on the device ahead of the steps.

    They are those that ``batch_rows`` takes from ``epoch_order``: the same rows at the
    same step as when all images are on the device. Which batches come is a function of
    the run's key and of the step, so that nothing here needs a checkpoint; what is
    remembered is only how far the workers have read.

    Args:
        images: The training images.
        epoch_order: ``(key, epoch) -> rows``, drawn on the device.
        batch_size: Examples in a batch.
        placement: Where batches lie. Each process reads the rows of its own devices.
    """

    def __init__(
        self,
        images: Streamed,
        epoch_order: Callable[[PRNGKeyArray, int], Array],
        batch_size: int,
        placement: Placement = ONE_DEVICE,
    ):
        self._images, self._epoch_order = images, epoch_order
        self._batch_size, self._placement = batch_size, placement
        self._own = placement.own_rows(batch_size)
        self._orders: collections.deque[np.ndarray] = collections.deque()
        self._steps = steps_per_epoch(len(images), batch_size)
        rows = self._steps * batch_size
        self._block = max(1, min(_MOST_EPOCHS, _MOST_ROWS // rows))
        self._key: PRNGKeyArray | None = None
        self._bits = np.zeros(0, np.uint32)
        self._next_step = self._end = 0
        self._iterator: Any = None
        self._ready: collections.deque[HostBatch] = collections.deque()

    def at(self, key: PRNGKeyArray, step: int) -> "Feed":
        """Goes to a step of the run with this key; on from the last one is free."""
        bits = np.array(jax.random.key_data(key))
        if not np.array_equal(bits, self._bits) or step != self._next_step:
            self.close()
            # A key of its own: the state that the other one belongs to is donated.
            impl = jax.random.key_impl(key)
            self._key = jax.random.wrap_key_data(jax.numpy.asarray(bits), impl=impl)
            self._bits, self._next_step, self._end = bits, step, step
        return self

    def take(self) -> HostBatch:
        """The batch of the next step."""
        self.refill(1)
        self._next_step += 1
        return self._ready.popleft()

    def peek(self) -> HostBatch:
        """The batch of the next step, which stays the next one."""
        self.refill(1)
        return self._ready[0]

    def refill(self, ahead: int = _AHEAD) -> None:
        """Puts batches on the device; to be called while it is busy."""
        while len(self._ready) < ahead:
            if self._next_step + len(self._ready) == self._end:
                self._open(self._end)
            # Copied: the workers' memory is shared and goes with its array, and the CPU
            # backend would keep using it.
            images = np.array(next(self._iterator)[0])
            self._ready.append(
                HostBatch(
                    self._placement.put_rows(images, self._batch_size),
                    self._placement.put(self._orders.popleft()),
                )
            )

    def close(self) -> None:
        """Stops the workers; the next batch starts them again."""
        self._ready.clear()
        self._orders.clear()
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
        self._end = self._next_step

    def _open(self, step: int) -> None:
        """Begins to read the block of epochs that this step begins or lies in."""
        if self._iterator is not None:
            self._iterator.close()
        assert self._key is not None
        first = step // self._steps
        positions = np.arange(self._steps * self._batch_size) % len(self._images)
        orders = [self._epoch_order(self._key, first + i) for i in range(self._block)]
        rows = np.stack([np.asarray(order)[positions] for order in orders])
        rows = rows.reshape(-1, self._batch_size)[step - first * self._steps :]
        self._iterator = self._images.batches(rows[:, self._own])
        self._orders.extend(rows.astype(np.int32))
        self._end = step + len(rows)


Order = Array | Feed
"""Of an epoch's rows; where images are streamed, what delivers them in that order."""


def fed(stage: Any, steps_per_call: int) -> Any:
    """A stage whose functions take a :class:`Feed` in place of its batches.

    Args:
        stage: A ``Stage`` whose functions take a :class:`HostBatch` as the order.
        steps_per_call: Batches, stacked, that its ``advance_many`` takes.
    """

    def advance(loop, feed: Feed):
        result = stage.advance(loop, feed.take())
        feed.refill()
        return result

    def advance_many(loop, feed: Feed):
        batches = [feed.take() for _ in range(steps_per_call)]
        many = HostBatch(*map(jax.numpy.stack, zip(*batches, strict=True)))
        result = stage.advance_many(loop, many)
        feed.refill(steps_per_call)
        return result

    def scratch_bytes(loop, feed: Feed):
        return stage.scratch_bytes(loop, feed.peek())

    return stage._replace(
        advance=advance,
        advance_many=advance if steps_per_call == 1 else advance_many,
        scratch_bytes=scratch_bytes,
    )
