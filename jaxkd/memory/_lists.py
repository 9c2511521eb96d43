"""Draw a list of rows for each example without touching all rows of the bank."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from jaxkd.memory import _circle, _devices, _random
from jaxkd.memory._labels import class_sizes

# A pass over lists reads each row of each list by itself, and one over windows reads
# all rows in large blocks. On a CPU, both take the same time if there are about 18 rows
# per negative (16,384 negatives of 128 features, for 64 examples).
_ROWS_PER_NEGATIVE = 20


class Lists(NamedTuple):
    """Distinct rows of other classes for each example.

    Attributes:
        rows: The list of each example. Entries after ``length`` are arbitrary rows.
        length: Number of rows of the list.
    """

    rows: Int[Array, "batch k"]
    length: Int[Array, " batch"]


def are_faster(count: int, total: int) -> bool:
    """Return whether lists of ``count`` rows take less time than windows.

    Other backends than the CPU, and banks that are distributed over several devices,
    use windows.
    """
    alone = jax.default_backend() == "cpu" and _devices.shards() == 1
    return alone and total >= _ROWS_PER_NEGATIVE * count


def draw(
    key: PRNGKeyArray,
    labels: Int[Array, " batch"],
    row_labels: Int[Array, " rows"],
    size: int,
    num_classes: int,
) -> Lists:
    """Draw ``size`` rows of other classes for each example, or all if there are fewer.

    Each list is uniform among all sequences of distinct rows of other classes, and the
    lists are independent, if at least half of all rows are of other classes for each
    example. Otherwise too many draws would be of the example's class, so the lists are
    taken from a random circular order.
    """
    total = row_labels.shape[0]
    others = total - class_sizes(row_labels, num_classes)[labels]

    def from_circle(key):
        circle = _circle.draw(key, labels, row_labels, num_classes)
        numbers = jnp.arange(total, dtype=jnp.int32)
        row_at = jnp.zeros_like(numbers).at[circle.position].set(numbers)
        steps = jnp.arange(size, dtype=jnp.int32)
        return row_at[jax.vmap(circle.place)(steps)].T

    def independently(key):
        return independent(key, labels, row_labels, size)

    enough = jnp.all((2 * others >= total) & (others >= 2 * size))
    rows = jax.lax.cond(enough, independently, from_circle, key)
    return Lists(rows, jnp.minimum(others, size))


def independent(
    key: PRNGKeyArray,
    labels: Int[Array, " batch"],
    row_labels: Int[Array, " rows"],
    size: int,
) -> Int[Array, "batch {size}"]:
    """Keep the first ``size`` distinct rows of other classes of independent draws.

    There must be so many for each example. The draws come in rounds, of which the first
    is usually enough.
    """
    total, start_keys = row_labels.shape[0], jax.random.split(key, len(labels))
    # An eighth more than distinct rows need, for those of the example's class.
    draws = _random.draws_for(size, total) * 9 // 8
    numbers = jnp.arange(draws, dtype=jnp.int32)

    def of_example(state, example):
        # Each round of draws has smaller numbers than all before it, so the table of
        # the least number of each row need not be cleared.
        least, start = state
        start_key, label = example

        def draw_round(state):
            key, least, base, rows, count = state
            key, used = jax.random.split(key)
            drawn = jax.random.randint(used, (draws,), 0, total, jnp.int32)
            is_new = least[drawn] >= start + draws  # not in a round of this example
            least = least.at[drawn].min(base + numbers)
            is_new &= least[drawn] == base + numbers
            is_new &= row_labels[drawn] != label
            place = count + jnp.cumsum(is_new, dtype=jnp.int32) - 1
            rows = rows.at[jnp.where(is_new, place, size)].set(drawn, mode="drop")
            return key, least, base - draws, rows, place[-1] + 1

        nothing = jnp.zeros((size,), jnp.int32), jnp.int32(0)
        _, least, base, rows, _ = jax.lax.while_loop(
            lambda state: state[-1] < size,
            draw_round,
            (start_key, least, start, *nothing),
        )
        return (least, base), rows

    least = jnp.full((total,), draws, jnp.int32)
    return jax.lax.scan(of_example, (least, jnp.int32(0)), (start_keys, labels))[1]
