"""Row numbers of the batches, as pure functions of a key and the step number."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int, PRNGKeyArray

from jaxkd import _checks
from jaxkd._errors import InvalidInputError


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Return the number of batches that contain every row at least once.

    Raises:
        InvalidInputError: If a number is not positive, or the batch size exceeds the
            number of rows.

    Example:
        >>> from jaxkd import data
        >>> data.steps_per_epoch(10, 4)
        3
    """
    _check_batch(num_rows, batch_size)
    return -(-num_rows // batch_size)


def epoch_order(
    key: PRNGKeyArray, num_rows: int, epoch: Int[ArrayLike, ""]
) -> Int[Array, " {num_rows}"]:
    """Draw the order of the rows in one epoch, on the device.

    The order depends on the key and the epoch only, so a resumed run uses the same
    orders as an uninterrupted one.

    Args:
        key: The run's PRNG key for shuffling.
        num_rows: Number of training rows.
        epoch: Number of the epoch.

    Returns:
        A permutation of the row numbers, int32.

    Raises:
        InvalidInputError: If there are no rows.
    """
    _checks.check_at_least(1, num_rows=num_rows)
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    return jax.random.permutation(jax.random.fold_in(key, epoch), rows)


def batch_rows(
    order: Int[Array, " rows"], step_in_epoch: Int[ArrayLike, ""], batch_size: int
) -> Int[Array, " {batch_size}"]:
    """Return the row numbers of one batch; works inside jit.

    The last batch of an epoch is filled up with the first rows of the epoch. All
    batches therefore have the same shape, every row is used, and no batch contains a
    row twice.

    Args:
        order: Order of the rows, from :func:`epoch_order`.
        step_in_epoch: 0 for the first batch; less than :func:`steps_per_epoch`.
        batch_size: Number of rows in a batch.

    Returns:
        Row numbers in the dtype of ``order``.

    Raises:
        InvalidInputError: If the batch size exceeds the number of rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import data
        >>> print(data.batch_rows(jnp.array([3, 1, 0, 4, 2]), 2, 2))
        [2 3]
    """
    num_rows = order.shape[0]
    _check_batch(num_rows, batch_size)
    start = jnp.asarray(step_in_epoch, jnp.int32) * batch_size
    positions = start + jnp.arange(batch_size, dtype=jnp.int32)
    return order[positions % num_rows]


class PaddedBatches(NamedTuple):
    """All rows in batches of the same size.

    Attributes:
        rows: Row numbers, int32; 0 for padding.
        mask: True for rows, False for padding.
    """

    rows: Int[np.ndarray, "batches batch"]
    mask: Bool[np.ndarray, "batches batch"]


def padded_batches(num_rows: int, batch_size: int) -> PaddedBatches:
    """Split all rows, in order, into batches for evaluation.

    The mask is true exactly once for each row, so masked sums count each row once. The
    batch size may exceed the number of rows.

    Raises:
        InvalidInputError: If a number is not positive.

    Example:
        >>> from jaxkd import data
        >>> rows, mask = data.padded_batches(5, 2)
        >>> rows.tolist()
        [[0, 1], [2, 3], [4, 0]]
        >>> mask.tolist()
        [[True, True], [True, True], [True, False]]
    """
    _checks.check_at_least(1, num_rows=num_rows, batch_size=batch_size)
    num_batches = -(-num_rows // batch_size)
    rows = np.arange(num_batches * batch_size, dtype=np.int32)
    mask = rows < num_rows
    shape = (num_batches, batch_size)
    return PaddedBatches(np.where(mask, rows, 0).reshape(shape), mask.reshape(shape))


def _check_batch(num_rows: int, batch_size: int) -> None:
    _checks.check_at_least(1, num_rows=num_rows, batch_size=batch_size)
    if batch_size > num_rows:
        raise InvalidInputError(
            f"batch_size must be at most {num_rows}, the number of training rows, "
            f"got {batch_size}",
            argument="batch_size",
        )
