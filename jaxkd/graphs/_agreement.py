"""Statistics of graphs over a batch: agreement of two graphs, purity of one."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Integer

from jaxkd import _checks
from jaxkd._errors import InvalidInputError


def neighbor_agreement(
    indices_a: Integer[ArrayLike, "batch a"], indices_b: Integer[ArrayLike, "batch b"]
) -> Float[Array, " batch"]:
    r"""Compute the share of one graph's neighbors that are neighbors in another graph.

    .. math::
        \frac{\lvert (A_i \cap B_i) \setminus \{i\} \rvert}
             {\lvert A_i \setminus \{i\} \rvert}.

    The share is symmetric in :math:`A` and :math:`B` if both have the same number of
    neighbors. The example itself is excluded, because all graphs of
    :func:`nearest_neighbors` contain it. The share is 1 if there are no neighbors.

    Args:
        indices_a: Row numbers of each example's neighbors :math:`A_i`, without
            repetition.
        indices_b: Row numbers of each example's neighbors :math:`B_i`, in any order.

    Returns:
        Shares in ``[0, 1]``, one per example.

    Raises:
        TypeError: If row numbers are not integers.
        ValueError: If the graphs have different numbers of examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> a = jnp.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1]])
        >>> b = jnp.array([[0, 1, 3], [1, 2, 0], [2, 3, 1], [3, 2, 2]])
        >>> print(graphs.neighbor_agreement(a, b).tolist())
        [0.5, 1.0, 0.5, 0.0]
    """
    indices_a = _checks.as_row_numbers(indices_a, "indices_a").astype(jnp.int32)
    indices_b = _checks.as_row_numbers(indices_b, "indices_b").astype(jnp.int32)
    if indices_a.shape[0] != indices_b.shape[0]:
        raise InvalidInputError(
            "indices_a and indices_b must have one row per example, "
            f"got {indices_a.shape} and {indices_b.shape}",
            argument="indices_b",
        )
    shared = (indices_a[:, :, None] == indices_b[:, None, :]).any(axis=-1)
    return _share(shared, indices_a)


def neighbor_purity(
    indices: Integer[ArrayLike, "batch k"], labels: Integer[ArrayLike, " batch"]
) -> Float[Array, " batch"]:
    r"""Compute the share of each example's neighbors that have its class.

    .. math::
        \frac{\lvert \{ j \in \mathcal{N}(i) \setminus \{i\} : y_j = y_i \} \rvert}
             {\lvert \mathcal{N}(i) \setminus \{i\} \rvert}.

    The share is 1 for an example without neighbors. It is necessarily less than 1 if
    an example has more neighbors than the batch has other examples of its class.

    Args:
        indices: Row numbers of each example's neighbors, without repetition.
        labels: Classes :math:`y`.

    Returns:
        Shares in ``[0, 1]``, one per example.

    Raises:
        TypeError: If row numbers or labels are not integers.
        ValueError: If neighbors and labels have different numbers of examples, or a
            concrete row number is not one of the batch's.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> neighbors = jnp.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
        >>> print(graphs.neighbor_purity(neighbors, jnp.array([5, 5, 7])).tolist())
        [0.5, 0.5, 0.0]
    """
    indices = _checks.as_row_numbers(indices, "indices")
    labels = _checks.as_class_numbers(labels)
    if labels.shape != indices.shape[:1]:
        raise InvalidInputError(
            "indices and labels must have one row per example, "
            f"got {indices.shape} and {labels.shape}",
            argument="labels",
        )
    _checks.check_numbers_below(len(labels), "examples", indices=indices)
    return _share(labels[indices] == labels[:, None], indices)


def _share(
    property_: Bool[Array, "batch k"], indices: Integer[Array, "batch k"]
) -> Float[Array, " batch"]:
    """Compute the share of the neighbors that have a property, excluding oneself."""
    own = jnp.arange(indices.shape[0], dtype=indices.dtype)[:, None]
    other = indices != own
    count = jnp.sum(other, axis=-1, dtype=float)
    hits = jnp.sum(property_ & other, axis=-1, dtype=float)
    return jnp.where(count > 0, hits / jnp.maximum(count, 1.0), 1.0)
