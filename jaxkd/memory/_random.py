"""Draw rows of the bank at random."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray


def random_order(key: PRNGKeyArray, size: int) -> Int[Array, " size"]:
    """Draw a uniformly random order of ``range(size)``.

    The numbers are sorted once by 64 random bits each, which coincide for some pair
    with probability below :math:`size^2/2^{65}`. This takes half the time of
    ``jax.random.permutation``, which sorts by 32 bits twice.
    """
    high, low = jax.random.bits(key, (2, size))
    numbers = jnp.arange(size, dtype=jnp.int32)
    return jax.lax.sort((high, low, numbers), num_keys=2, is_stable=False)[-1]


def draws_for(count: int, total: int) -> int:
    """Return a number of draws that contain ``count`` distinct numbers.

    It exceeds the mean number by at least eight standard deviations, if ``count`` is at
    most half of ``total``.
    """
    mean = -total * math.log1p(-count / (total + 1))
    return math.ceil(mean + 8 * math.sqrt(count))


def distinct_rows(key: PRNGKeyArray, count: int, total: int) -> Int[Array, " count"]:
    """Draw distinct rows of ``range(total)``; each sequence of them is equally likely.

    The first ``count`` distinct numbers of independent draws have this distribution. If
    the draws contain fewer, which practically never happens, all are drawn again. The
    cost hardly depends on ``total``: a table of this length is filled, but not sorted.
    """
    draws = draws_for(count, total)
    if 2 * draws > total:
        return random_order(key, total)[:count]
    order = jnp.arange(draws, dtype=jnp.int32)

    def draw(state):
        key, used = jax.random.split(state[0])
        drawn = jax.random.randint(used, (draws,), 0, total, jnp.int32)
        first_draw = jnp.full((total,), draws, jnp.int32).at[drawn].min(order)
        is_new = first_draw[drawn] == order
        place = jnp.cumsum(is_new, dtype=jnp.int32) - 1
        rows = jnp.zeros((count,), jnp.int32)
        rows = rows.at[jnp.where(is_new, place, count)].set(drawn, mode="drop")
        return key, rows, place[-1] + 1

    nothing = key, jnp.zeros((count,), jnp.int32), jnp.int32(0)
    return jax.lax.while_loop(lambda state: state[2] < count, draw, nothing)[1]
