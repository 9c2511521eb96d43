"""Random circular order of the rows, in which each example has a starting row."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int, PRNGKeyArray

from jaxkd.memory import _random
from jaxkd.memory._labels import class_sizes


class Circle(NamedTuple):
    """Random circular order of all rows, and each example's start.

    Attributes:
        position: Position of each row in the order.
        places: Positions of the rows, grouped by class and sorted in each class.
        first: Number of the first of ``places`` in the class of each example.
        same: Number of rows in the class of each example.
        rank: Number of rows of other classes before each example's start.
    """

    position: Int[Array, " rows"]
    places: Int[Array, " rows"]
    first: Int[Array, " batch"]
    same: Int[Array, " batch"]
    rank: Int[Array, " batch"]

    @property
    def others(self) -> Int[Array, " batch"]:
        """Number of rows of other classes."""
        return len(self.position) - self.same

    def place(self, step: Int[ArrayLike, "*step"]) -> Int[Array, " batch"]:
        """Return the position of the row ``step`` rows of other classes later."""
        # `others` is zero for examples without negatives only.
        rank = (self.rank + step) % jnp.maximum(self.others, 1)
        total = len(self.places)

        # The m-th row of the example's class has places[first + m] - m rows of other
        # classes before it. This grows with m, so bisect for the first m beyond rank.
        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) // 2
            before = self.places[jnp.minimum(self.first + middle, total - 1)] - middle
            right = (before <= rank) & (low < high)
            return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

        bounds = jnp.zeros_like(rank), jnp.broadcast_to(self.same, rank.shape)
        return rank + jax.lax.fori_loop(0, total.bit_length(), halve, bounds)[0]


def draw(
    key: PRNGKeyArray,
    labels: Int[Array, " batch"],
    row_labels: Int[Array, " rows"],
    num_classes: int,
) -> Circle:
    """Draw the order and the starts; these are uniform among rows of other classes."""
    order_key, start_key = jax.random.split(key)
    total = row_labels.shape[0]
    position = _random.random_order(order_key, total)
    sizes = class_sizes(row_labels, num_classes)
    places = places_by_class(row_labels, position, num_classes)
    first, count = (jnp.cumsum(sizes) - sizes)[labels], sizes[labels]
    most = jnp.maximum(total - count, 1)
    rank = jax.random.randint(start_key, labels.shape, 0, most, jnp.int32)
    return Circle(position, places, first, count, rank)


def places_by_class(
    row_labels: Int[Array, " rows"], position: Int[Array, " rows"], num_classes: int
) -> Int[Array, " rows"]:
    """Return the positions of the rows, grouped by class and sorted in each class."""
    total = row_labels.shape[0]
    if num_classes * total > 2**32:
        return jax.lax.sort((row_labels, position), num_keys=2, is_stable=False)[1]
    # One 32-bit key instead of two is six times faster on a CPU.
    keys = row_labels.astype(jnp.uint32) * total + position.astype(jnp.uint32)
    return (jnp.sort(keys) % total).astype(position.dtype)
