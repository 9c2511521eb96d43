"""What a graph over a batch says: do two agree, and are neighbours alike?"""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxkd._errors import InvalidInputError


def neighbor_agreement(
    indices_a: Int[ArrayLike, "batch a"], indices_b: Int[ArrayLike, "batch b"]
) -> Float[Array, " batch"]:
    r"""The share of one graph's neighbours that are also neighbours in another.

    .. math::
        \frac{\lvert (A_i \cap B_i) \setminus \{i\} \rvert}
             {\lvert A_i \setminus \{i\} \rvert},

    symmetric in :math:`A` and :math:`B` if both have as many neighbours. The example
    itself does not count, or every two graphs of :func:`nearest_neighbors` would agree
    in it. Of no neighbours, all are shared: the value is 1.

    Args:
        indices_a: Row numbers of every example's neighbours :math:`A_i`, no row twice.
        indices_b: Those of :math:`B_i`, in any order.

    Returns:
        Shares in ``[0, 1]``, one per example.

    Raises:
        ValueError: If the graphs have different numbers of examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> a = jnp.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1]])
        >>> b = jnp.array([[0, 1, 3], [1, 2, 0], [2, 3, 1], [3, 2, 2]])
        >>> print(graphs.neighbor_agreement(a, b).tolist())
        [0.5, 1.0, 0.5, 0.0]
    """
    indices_a, indices_b = jnp.asarray(indices_a), jnp.asarray(indices_b)
    if indices_a.shape[0] != indices_b.shape[0]:
        raise InvalidInputError(
            "indices_a and indices_b must have one row per example, "
            f"got {indices_a.shape} and {indices_b.shape}"
        )
    shared = (indices_a[:, :, None] == indices_b[:, None, :]).any(axis=-1)
    return _share(shared, indices_a)


def neighbor_purity(
    indices: Int[ArrayLike, "batch k"], labels: Int[ArrayLike, " batch"]
) -> Float[Array, " batch"]:
    r"""The share of an example's neighbours that are of its class.

    .. math::
        \frac{\lvert \{ j \in \mathcal{N}(i) \setminus \{i\} : y_j = y_i \} \rvert}
             {\lvert \mathcal{N}(i) \setminus \{i\} \rvert},

    and 1 for an example without neighbours. What a batch allows is less than 1 where an
    example has more neighbours than there are others of its class.

    Args:
        indices: Row numbers of every example's neighbours, no row twice.
        labels: Classes :math:`y`.

    Returns:
        Shares in ``[0, 1]``, one per example.

    Raises:
        ValueError: If neighbours and labels disagree on the number of examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> neighbors = jnp.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]])
        >>> print(graphs.neighbor_purity(neighbors, jnp.array([5, 5, 7])).tolist())
        [0.5, 0.5, 0.0]
    """
    indices, labels = jnp.asarray(indices), jnp.asarray(labels)
    if indices.shape[0] != labels.shape[0]:
        raise InvalidInputError(
            "indices and labels must have one row per example, "
            f"got {indices.shape} and {labels.shape}"
        )
    return _share(labels[indices] == labels[:, None], indices)


def _share(
    property_: Bool[Array, "batch k"], indices: Int[Array, "batch k"]
) -> Float[Array, " batch"]:
    """The share of the neighbours other than oneself that have a property."""
    own = jnp.arange(indices.shape[0], dtype=indices.dtype)[:, None]
    other = indices != own
    count = jnp.sum(other, axis=-1, dtype=float)
    hits = jnp.sum(property_ & other, axis=-1, dtype=float)
    return jnp.where(count > 0, hits / jnp.maximum(count, 1.0), 1.0)
