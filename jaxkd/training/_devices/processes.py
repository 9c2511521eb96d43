"""Decisions that several processes, each with its own devices, take together."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

Result = TypeVar("Result")


def is_first() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def agreed(value: int) -> int:
    """Return the first process's value in all processes, which wait for each other."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def any_of(value: bool) -> bool:
    """Return whether any process passes True; the processes wait for each other."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.int32(value))))


def meet(mesh: Mesh) -> None:
    """Open the connections between processes that steps on a mesh will use.

    On CPU, a process that opens a connection waits only 30 seconds for its peers. Here
    all processes arrive together; at the first step, one may still be compiling.
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
    """Run an action in the first process while the others wait.

    Args:
        action: Called in the first process only.
        refusal: Raised by the other processes if the action fails.

    Raises:
        Exception: In the first process, the exception that ``action`` raises.
    """
    if jax.process_count() == 1:
        action()
        return
    error = None
    if is_first():
        try:
            action()
        except Exception as failure:  # raised below, after the others are told
            error = failure
    failed = agreed(int(error is not None))
    if error is not None:
        raise error
    if failed:
        raise refusal


def all_or_none(action: Callable[[], Result], refusal: Exception) -> Result:
    """Run an action in every process, and fail in all if it fails in one.

    Args:
        action: Called in every process. It must not wait for other processes.
        refusal: Raised by processes whose own action succeeded if another's failed.

    Raises:
        Exception: The exception that ``action`` raises, or the refusal.
    """
    if jax.process_count() == 1:
        return action()
    result, error = None, None
    try:
        result = action()
    except Exception as failure:  # raised below, after the others are told
        error = failure
    failed = any_of(error is not None)
    if error is not None:
        raise error
    if failed:
        raise refusal
    return result  # pyright: ignore[reportReturnType]
