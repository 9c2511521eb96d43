"""Images without labels, in the methods that read labels."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from jaxkd.distillers._base import Batch


def of_labeled(values: Float[Array, " batch"], batch: Batch) -> Float[Array, " batch"]:
    """Return the values, with zero for images without a label."""
    if batch.labeled is None:
        return values
    return jnp.where(batch.labeled, values, 0)


def mean_of_labeled(values: Float[Array, " batch"], batch: Batch) -> Float[Array, ""]:
    """Compute the mean over the images with a label; zero if there are none."""
    if batch.labeled is None:
        return jnp.mean(values)
    count = jnp.maximum(jnp.sum(batch.labeled, dtype=values.dtype), 1)
    return jnp.sum(of_labeled(values, batch)) / count


def classes_of_rows(
    labels: Integer[np.ndarray, " rows"], num_classes: int
) -> Integer[np.ndarray, " rows"]:
    """Return the labels, with a class of its own for each row that has none.

    Row ``i`` gets the number ``num_classes + i``. No index is negative, and all other
    rows may be its negatives.
    """
    if not len(labels) or labels.min() >= 0:
        return labels
    return np.where(labels < 0, num_classes + np.arange(len(labels)), labels)


def classes_of_batch(
    batch: Batch,
    rows: Int[Array, " batch"],
    row_classes: Int[Array, " rows"],
    num_classes: int,
) -> tuple[Int[Array, " batch"], int]:
    """Return the batch's classes among :func:`classes_of_rows`, and their number.

    Args:
        batch: The batch.
        rows: Its row numbers.
        row_classes: Classes of all rows.
        num_classes: Number of classes of the labels.
    """
    if batch.labeled is None:
        return batch.labels, num_classes
    return row_classes[rows], num_classes + len(row_classes)
