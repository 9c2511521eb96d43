"""The batches of a run: from arrays on the device, or from inputs of the host."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxkd.data import Split, Streamed, batch_rows, steps_per_epoch
from jaxkd.recordings import Recording
from jaxkd.training._devices.feed import DrawOrder, Feed, HostBatch, draw_order
from jaxkd.training._devices.placement import Placement
from jaxkd.training._step import Examples

Order = Array | Feed
"""The rows of an epoch in order, or a feed that delivers the steps' inputs."""


class Batches:
    """The examples of each step.

    Labels are on the device. Images are there too, unless they are streamed. Streamed
    images and a teacher's recorded outputs come from the host, through a
    :class:`Feed`. The rows of a step are the same in each case.

    Args:
        split: The training set.
        batch_size: Examples in a batch.
        placement: The devices of the arrays.
        recording: The teacher's recorded outputs, if there are any.
        steps_per_call: Steps in one call of a stage's ``advance_many``.
        draw: Draws the order of an epoch; by default a random order.

    Attributes:
        split: The training set on the device; its images are None if streamed.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        placement: Placement,
        *,
        recording: Recording | None = None,
        steps_per_call: int = 1,
        draw: DrawOrder | None = None,
    ):
        streamed: Any = split.images if isinstance(split.images, Streamed) else None
        images: Any = None if streamed is not None else np.asarray(split.images)
        self.split = placement.put(Split(images, split.labels))
        rows = len(split.labels)
        self._batch_size, self._recording = batch_size, recording
        self._steps_per_call = steps_per_call
        self._steps = steps = steps_per_epoch(rows, batch_size)
        of_epoch = draw or draw_order(rows, placement)
        self._order = jax.jit(lambda key, step: of_epoch(key, step // steps))
        self._feed: Feed | None = None
        if streamed is not None or recording is not None:
            self._feed = Feed(
                *(of_epoch, rows, batch_size, placement),
                images=streamed,
                recording=recording,
                steps_per_call=steps_per_call,
            )

    def order(self, data_key: PRNGKeyArray, step: Any) -> Order:
        """Draw the order of a step's epoch, or move the feed to that step."""
        if self._feed is None:
            return self._order(data_key, step)
        return self._feed.at(data_key, int(step))

    def examples(self, split: Any, order: Array | HostBatch, step: Array) -> Examples:
        """Inside a compiled function: assemble the batch of a step.

        Args:
            split: The attribute ``split``, as an argument of that function.
            order: The epoch's order, or the step's inputs from the host.
            step: The step.
        """
        if isinstance(order, HostBatch):
            rows, images = jnp.asarray(order.rows), order.images
        else:
            rows = batch_rows(order, step % self._steps, self._batch_size)
            images = None
        teacher = None
        if self._recording is not None:
            assert isinstance(order, HostBatch)
            teacher = self._recording.decode(order.recorded)
        images = split.images[rows] if images is None else jnp.asarray(images)
        return Examples(images, split.labels[rows], rows, teacher)

    def supply(self, stage: Any) -> Any:
        """Return the stage with functions that take an :data:`Order`."""
        if self._feed is None:
            return stage
        steps = self._steps_per_call

        def advance(loop, feed: Feed):
            result = stage.advance(loop, feed.take())
            feed.refill()
            return result

        def advance_many(loop, feed: Feed):
            result = stage.advance_many(loop, feed.take(steps))
            feed.refill(steps)
            return result

        many = advance if steps == 1 else advance_many
        return stage._replace(advance=advance, advance_many=many)

    def feeding(self) -> contextlib.AbstractContextManager:
        """Return a context around training; at its end, workers are stopped."""
        if self._feed is None:
            return contextlib.nullcontext()
        return contextlib.closing(self._feed)
