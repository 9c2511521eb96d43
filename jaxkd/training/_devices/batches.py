"""The batches of a run: rows of resident images, or images streamed from the host."""

import collections
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from jaxkd.data import Split, Streamed, batch_rows, epoch_order, steps_per_epoch
from jaxkd.training._devices.placement import ONE_DEVICE, Placement
from jaxkd.training._state import LoopState, order_key
from jaxkd.training._step import Examples

# Workers are started once per block of epochs and receive its order in int32.
_MAX_BLOCK_ROWS = 2**22
_MAX_BLOCK_EPOCHS = 16
_AHEAD = 2

DrawOrder = Callable[[PRNGKeyArray, Any], Array]
"""``(data_key, epoch) -> rows`` in the order of that epoch."""


class HostBatch(NamedTuple):
    """A batch on its way from the host to the device.

    Attributes:
        images: As stored.
        rows: Their row numbers.
    """

    images: Shaped[Array, "*steps batch height width channels"]
    rows: Int[Array, "*steps batch"]


class ResidentBatches:
    """Batches that the step takes from images on the device.

    Args:
        split: The training set. It is copied to the device.
        batch_size: Examples in a batch.
        placement: The devices of the arrays.
    """

    def __init__(self, split: Split, batch_size: int, placement: Placement):
        self.split = placement.put(
            split._replace(images=np.asarray(split.images), labels=split.labels)
        )
        self._batch_size = batch_size
        self._steps = steps = steps_per_epoch(len(split.labels), batch_size)
        draw = draw_order(len(split.labels), placement)
        self._order = jax.jit(lambda key, step: draw(key, step // steps))

    def order(self, loop: LoopState) -> Array:
        """Draw the order of the current epoch."""
        return self._order(loop.train.data_key, loop.train.step)

    def examples(self, split: Any, order: Array, step: Array) -> Examples:
        """Inside a compiled function: take the batch of a step from the split."""
        rows = batch_rows(order, step % self._steps, self._batch_size)
        return Examples(split.images[rows], split.labels[rows], rows)

    def supply(self, stage: Any) -> Any:
        """Return the stage as it is: its compiled functions take an order of rows."""
        return stage

    def feeding(self) -> contextlib.AbstractContextManager:
        """Return a context around training, which does nothing here."""
        return contextlib.nullcontext()


class StreamedBatches:
    """Batches that are read on the host and put on the device ahead of the steps.

    They hold the same rows at the same step as :class:`ResidentBatches`.

    Args:
        split: The training set, with streamed images. Its labels are copied to the
            device.
        batch_size: Examples in a batch.
        placement: The devices of the arrays.
        steps_per_call: Batches in one call of a stage's ``advance_many``.
    """

    def __init__(
        self, split: Split, batch_size: int, placement: Placement, steps_per_call: int
    ):
        self.split = placement.put(split._replace(images=None, labels=split.labels))
        self._steps_per_call = steps_per_call
        draw = draw_order(len(split.labels), placement)
        images: Any = split.images
        self._feed = Feed(images, draw, batch_size, placement)

    def order(self, loop: LoopState) -> "Feed":
        """Move the feed to the step that the state has reached."""
        return self._feed.at(loop.train.data_key, int(loop.train.step))

    def examples(self, split: Any, batch: HostBatch, step: Array) -> Examples:
        """Inside a compiled function: add the labels to a batch."""
        return Examples(batch.images, split.labels[batch.rows], batch.rows)

    def supply(self, stage: Any) -> Any:
        """Return a stage whose functions take a :class:`Feed` for their batches."""
        steps = self._steps_per_call

        def advance(loop, feed: Feed):
            result = stage.advance(loop, feed.take())
            feed.refill()
            return result

        def advance_many(loop, feed: Feed):
            batches = [feed.take() for _ in range(steps)]
            many = HostBatch(*map(jax.numpy.stack, zip(*batches, strict=True)))
            result = stage.advance_many(loop, many)
            feed.refill(steps)
            return result

        many = advance if steps == 1 else advance_many
        return stage._replace(advance=advance, advance_many=many)

    def feeding(self) -> contextlib.AbstractContextManager:
        """Return a context around training; at its end, the workers are stopped."""
        return contextlib.closing(self._feed)


def draw_order(rows: int, placement: Placement) -> DrawOrder:
    """Compile the drawing of an epoch's order, on every device."""

    @jax.jit
    def order(data_key, epoch):
        return placement.everywhere(epoch_order(order_key(data_key), rows, epoch))

    return order


class Feed:
    """The batches of a training run, read and put on the device ahead of the steps.

    The batches are a function of the run's key and of the step, so nothing here needs a
    checkpoint. The feed only remembers how far the workers have read.

    Args:
        images: The training images.
        order: Draws the order of an epoch on the device.
        batch_size: Examples in a batch.
        placement: The devices of the batches. Each process reads the rows of its own
            devices.
    """

    def __init__(
        self,
        images: Streamed,
        order: DrawOrder,
        batch_size: int,
        placement: Placement = ONE_DEVICE,
    ):
        self._images, self._order = images, order
        self._batch_size, self._placement = batch_size, placement
        self._own = placement.own_rows(batch_size)
        self._orders: collections.deque[np.ndarray] = collections.deque()
        self._steps = steps_per_epoch(len(images), batch_size)
        rows = self._steps * batch_size
        self._block = max(1, min(_MAX_BLOCK_EPOCHS, _MAX_BLOCK_ROWS // rows))
        self._key: PRNGKeyArray | None = None
        self._bits = np.zeros(0, np.uint32)
        self._next_step = self._end = 0
        self._iterator: Any = None
        self._ready: collections.deque[HostBatch] = collections.deque()

    def at(self, key: PRNGKeyArray, step: int) -> "Feed":
        """Move to a step of the run with this key. Continuing costs nothing."""
        bits = np.array(jax.random.key_data(key))
        if not np.array_equal(bits, self._bits) or step != self._next_step:
            self.close()
            # A copy of the key: the state that holds the original will be donated.
            impl = jax.random.key_impl(key)
            self._key = jax.random.wrap_key_data(jax.numpy.asarray(bits), impl=impl)
            self._bits, self._next_step, self._end = bits, step, step
        return self

    def take(self) -> HostBatch:
        """Return the batch of the next step."""
        self.refill(1)
        self._next_step += 1
        return self._ready.popleft()

    def refill(self, ahead: int = _AHEAD) -> None:
        """Put the next batches on the device. Call this while the device is busy."""
        while len(self._ready) < ahead:
            if self._next_step + len(self._ready) == self._end:
                self._open(self._end)
            # The copy is necessary: the workers' shared memory is freed with its array,
            # and the CPU backend would continue to use it.
            images = np.array(next(self._iterator)[0])
            self._ready.append(
                HostBatch(
                    self._placement.put_rows(images, self._batch_size),
                    self._placement.put(self._orders.popleft()),
                )
            )

    def close(self) -> None:
        """Stop the workers. The next batch starts them again."""
        self._ready.clear()
        self._orders.clear()
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
        self._end = self._next_step

    def _open(self, step: int) -> None:
        """Start to read at a step, up to the end of its block of epochs."""
        if self._iterator is not None:
            self._iterator.close()
        assert self._key is not None
        first = step // self._steps
        positions = np.arange(self._steps * self._batch_size) % len(self._images)
        orders = [self._order(self._key, first + i) for i in range(self._block)]
        rows = np.stack([np.asarray(order)[positions] for order in orders])
        rows = rows.reshape(-1, self._batch_size)[step - first * self._steps :]
        self._iterator = self._images.batches(rows[:, self._own])
        self._orders.extend(rows.astype(np.int32))
        self._end = step + len(rows)


Order = Array | Feed
"""The rows of an epoch in order, or a feed that delivers their batches."""

Batches = ResidentBatches | StreamedBatches
