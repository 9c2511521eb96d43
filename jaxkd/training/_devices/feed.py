"""Inputs of the steps that come from the host, put on the device ahead of the steps."""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from jaxkd.data import Streamed, epoch_order, steps_per_epoch
from jaxkd.recordings import Recording
from jaxkd.training._devices.placement import ONE_DEVICE, Placement
from jaxkd.training._state import PyTree, order_key

# Workers are started once per block of epochs and receive its order in int32.
_MAX_BLOCK_ROWS = 2**22
_MAX_BLOCK_EPOCHS = 16
_AHEAD = 2

DrawOrder = Callable[[PRNGKeyArray, Any], Array]
"""``(data_key, epoch) -> rows`` in the order of that epoch."""


class HostBatch(NamedTuple):
    """The inputs of a step, or of several, on their way from the host to the device.

    Attributes:
        rows: Row numbers of the examples.
        images: Their images as stored; None if the images are on the device.
        recorded: What a recording stores of the teacher's outputs for them; None
            without a recording.
    """

    rows: Int[Array | np.ndarray, "*steps batch"]
    images: Shaped[Array | np.ndarray, "*steps batch height width channels"] | None = (
        None
    )
    recorded: PyTree = None


def draw_order(rows: int, placement: Placement) -> DrawOrder:
    """Compile the drawing of an epoch's order, on every device."""

    @jax.jit
    def order(data_key, epoch):
        return placement.everywhere(epoch_order(order_key(data_key), rows, epoch))

    return order


class Feed:
    """The inputs of a training run, read and put on the device ahead of the steps.

    They are a function of the run's key and of the step, so nothing here needs a
    checkpoint. The feed only remembers how far it has read.

    Args:
        order: Draws the order of an epoch on the device.
        rows: Number of training rows.
        batch_size: Examples in a batch.
        placement: The devices of the batches. Each process reads the rows of its own
            devices.
        images: The training images, if they are streamed.
        recording: The teacher's recorded outputs, if there are any.
        steps_per_call: Steps of a call of several. Their inputs are put on the device
            together.
    """

    def __init__(
        self,
        order: DrawOrder,
        rows: int,
        batch_size: int,
        placement: Placement = ONE_DEVICE,
        *,
        images: Streamed | None = None,
        recording: Recording | None = None,
        steps_per_call: int = 1,
    ):
        self._order, self._rows, self._batch_size = order, rows, batch_size
        self._placement, self._own = placement, placement.own_rows(batch_size)
        self._images, self._recording = images, recording
        self._steps_per_call = steps_per_call
        self._steps = steps_per_epoch(rows, batch_size)
        epoch_rows = self._steps * batch_size
        self._block = max(1, min(_MAX_BLOCK_EPOCHS, _MAX_BLOCK_ROWS // epoch_rows))
        # A recording of augmented images ends; there is nothing to read ahead after it.
        epochs = 0 if recording is None else recording.views.epochs
        self._last = epochs * self._steps if epochs else None
        self._key: PRNGKeyArray | None = None
        self._bits = np.zeros(0, np.uint32)
        self._next_step = self._end = 0
        self._iterator: Any = None
        self._orders: collections.deque[np.ndarray] = collections.deque()
        self._ready: collections.deque[tuple[int, HostBatch]] = collections.deque()

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

    def take(self, steps: int = 1) -> HostBatch:
        """Return the inputs of the next step, or those of several, stacked."""
        while self._held() < steps:
            self._read()
        self._next_step += steps
        if self._ready[0][0] == steps:
            return self._ready.popleft()[1]
        # The caller takes fewer or more steps at once than were put together.
        singles: list[HostBatch] = []
        while len(singles) < steps:
            singles += _unstacked(*self._ready.popleft())
        self._ready.extendleft((1, single) for single in reversed(singles[steps:]))
        if steps == 1:
            return singles[0]
        return jax.tree.map(lambda *x: jax.numpy.stack(x), *singles[:steps])

    def refill(self, ahead: int = _AHEAD) -> None:
        """Put the next inputs on the device. Call this while the device is busy."""
        while self._held() < ahead and self._next_step + self._held() != self._last:
            self._read()

    def close(self) -> None:
        """Stop the workers. The next batch starts them again."""
        self._ready.clear()
        self._orders.clear()
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
        self._end = self._next_step

    def _held(self) -> int:
        """Return the number of steps whose inputs are on the device."""
        return sum(steps for steps, _ in self._ready)

    def _read(self) -> None:
        """Read the inputs of the next call, and put them on the device."""
        step = self._next_step + self._held()
        # As the training loop divides an epoch into calls.
        place, steps = step % self._steps, self._steps_per_call
        if place % steps or place + steps > self._steps:
            steps = 1
        batches = [self._read_step(step + i) for i in range(steps)]
        self._ready.append((steps, self._put(batches)))

    def _read_step(self, step: int) -> HostBatch:
        """Read the inputs of a step on the host: the rows of this process's devices."""
        if step == self._end:
            self._open(step)
        rows = self._orders.popleft()
        images = recorded = None
        if self._iterator is not None:
            # The copy is necessary: the workers' shared memory is freed with its array,
            # and the CPU backend would continue to use it.
            images = np.array(next(self._iterator)[0])
        if self._recording is not None:
            stored = self._recording.stored(step, rows)
            recorded = jax.tree.map(lambda x: x[self._own], stored)
        return HostBatch(rows, images, recorded)

    def _put(self, batches: list[HostBatch]) -> HostBatch:
        """Put the inputs of one call on the device."""
        several = len(batches) > 1
        batch = jax.tree.map(lambda *x: np.stack(x) if several else x[0], *batches)
        put = lambda x: self._placement.put_rows(x, self._batch_size, axis=int(several))
        return HostBatch(
            self._placement.put(batch.rows),
            None if batch.images is None else put(batch.images),
            jax.tree.map(put, batch.recorded),
        )

    def _open(self, step: int) -> None:
        """Start to read at a step, up to the end of its block of epochs."""
        if self._iterator is not None:
            self._iterator.close()
        assert self._key is not None
        first = step // self._steps
        positions = np.arange(self._steps * self._batch_size) % self._rows
        orders = [self._order(self._key, first + i) for i in range(self._block)]
        rows = np.stack([np.asarray(order)[positions] for order in orders])
        rows = rows.reshape(-1, self._batch_size)[step - first * self._steps :]
        if self._images is not None:
            self._iterator = self._images.batches(rows[:, self._own])
        self._orders.extend(rows.astype(np.int32))
        self._end = step + len(rows)


def _unstacked(steps: int, batch: HostBatch) -> list[HostBatch]:
    """Return the inputs of each step of a call."""
    if steps == 1:
        return [batch]
    return [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(steps)]
