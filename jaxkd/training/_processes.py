"""What several processes, each with devices of its own, do as one."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

Result = TypeVar("Result")


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def agreed(value: int) -> int:
    """The first process's value, in all of them; they wait for each other."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def any_of(value: bool) -> bool:
    """Whether it is so in any of the processes; they wait for each other."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.int32(value))))


def meet(mesh: Mesh) -> None:
    """Opens the connections between processes that the steps on a mesh will take.

    On CPU, a process that opens one waits 30 seconds for its peers. Here all arrive
    together; at the first step, one may still be compiling.
    """
    if jax.process_count() == 1:
        return
    agreed(0)
    names, everywhere = mesh.axis_names, PartitionSpec()

    def sums(x):
        return [jax.lax.psum(x, axes) for axes in (*names, names)]

    greet = jax.shard_map(sums, mesh=mesh, in_specs=everywhere, out_specs=everywhere)
    jax.block_until_ready(jax.jit(greet)(jnp.zeros(())))


def first_alone(action: Callable[[], object], refusal: Exception) -> None:
    """Has the first process act while the others wait.

    Args:
        action: What only it does.
        refusal: What the others raise if it could not.

    Raises:
        Exception: In the first process, what ``action`` does.
    """
    if jax.process_count() == 1:
        action()
        return
    error = None
    if is_first():
        try:
            action()
        except Exception as failure:
            error = failure
    failed = agreed(int(error is not None))
    if error is not None:
        raise error
    if failed:
        raise refusal


def all_or_none(action: Callable[[], Result], refusal: Exception) -> Result:
    """Has every process do what may fail in some, before they depend on each other.

    Args:
        action: What all do, without waiting for each other.
        refusal: What those raise that could, if another could not.

    Raises:
        Exception: What ``action`` does; or the refusal.
    """
    if jax.process_count() == 1:
        return action()
    result, error = None, None
    try:
        result = action()
    except Exception as failure:
        error = failure
    failed = any_of(error is not None)
    if error is not None:
        raise error
    if failed:
        raise refusal
    return result  # pyright: ignore[reportReturnType]
