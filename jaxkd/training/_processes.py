"""What several processes, each with devices of its own, do as one."""

from collections.abc import Callable

import jax
import numpy as np


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def agreed(value: int) -> int:
    """The first process's value, in all of them; they wait for each other."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


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
