"""The graph over a batch: who predicts alike, and the mean over neighbours."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize


def nearest_neighbors(
    logits: Float[ArrayLike, "batch classes"], *, k: int
) -> Int[Array, "batch neighbors"]:
    r"""The ``k`` examples whose predictions are most alike, the example itself first.

    Likeness is the cosine similarity of :math:`p_i = \mathrm{softmax}(z_i)`,

    .. math::
        s_{ij} = \frac{p_i^\top p_j}{\lVert p_i \rVert \, \lVert p_j \rVert},

    so a constant added to a row of logits changes no neighbour, and permuting the
    batch permutes the graph. Of equally similar examples the earlier row wins. The
    graph carries no gradient.

    Args:
        logits: Unnormalised log-probabilities :math:`z`.
        k: Number of neighbours, the example itself included. A batch of fewer than
            ``k`` examples is connected completely.

    Returns:
        Row numbers, int32, of shape ``[batch, min(k, batch)]``.

    Raises:
        TypeError: If the logits are not floating point or ``k`` is no integer.
        ValueError: If ``k`` is less than 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> logits = jnp.array([[3.0, 0.0], [0.0, 3.0], [2.0, 0.0]])
        >>> print(graphs.nearest_neighbors(logits, k=2).tolist())
        [[0, 2], [1, 2], [2, 0]]

    References:
        Zhou et al., `Distilling Holistic Knowledge with Graph Neural Networks
        <https://arxiv.org/abs/2108.05507>`_, 2021.
    """
    logits = _checks.as_float_array(logits, "logits")
    return most_similar(jax.nn.softmax(jax.lax.stop_gradient(logits)), k=k)


def most_similar(
    vectors: Float[ArrayLike, "batch dim"], *, k: int
) -> Int[Array, "batch neighbors"]:
    r"""The ``k`` examples whose vectors point most nearly the same way, itself first.

    Likeness is the cosine similarity, so the lengths do not matter; a zero vector is
    like none. Of equally similar examples the earlier row wins. The graph carries no
    gradient.

    Args:
        vectors: One row per example, of embeddings for instance.
        k: Number of neighbours, as for :func:`nearest_neighbors`.

    Returns:
        Row numbers, int32, of shape ``[batch, min(k, batch)]``.

    Raises:
        TypeError: If the vectors are not floating point or ``k`` is no integer.
        ValueError: If ``k`` is less than 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> embeddings = jnp.array([[1.0, 0.0], [0.0, 1.0], [9.0, 1.0]])
        >>> print(graphs.most_similar(embeddings, k=2).tolist())
        [[0, 2], [1, 2], [2, 0]]
    """
    vectors = _checks.as_float_array(vectors, "vectors")
    _checks.check_at_least(1, k=k)
    batch = vectors.shape[0]

    directions = l2_normalize(jax.lax.stop_gradient(vectors))
    # Confident predictions differ in their last bits, which faster matmuls drop.
    similarity = jnp.matmul(directions, directions.T, precision="highest")
    # Rounding, or k rows that are equal, must not push an example out of its own list.
    similarity = jnp.where(jnp.eye(batch, dtype=bool), jnp.inf, similarity)
    return jax.lax.top_k(similarity, min(k, batch))[1]


def propagate(
    features: Float[ArrayLike, "batch dim"], neighbors: Int[ArrayLike, "batch k"]
) -> Float[Array, "batch dim"]:
    r"""Replaces every row by the mean of its neighbours' rows.

    One hop on a graph of constant in-degree :math:`k`:

    .. math::
        (P h)_i = \frac{1}{k} \sum_{j \in \mathcal{N}(i)} h_j, \qquad
        \nabla_h \langle g, P h \rangle = P^\top g.

    Args:
        features: One row per example.
        neighbors: Row numbers of every example's neighbours.

    Returns:
        The means, in the dtype of ``features`` but at least float32.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If features and neighbours disagree on the number of examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import graphs
        >>> neighbors = jnp.array([[0, 1], [1, 0]])
        >>> print(graphs.propagate(jnp.array([[0.0], [4.0]]), neighbors).tolist())
        [[2.0], [2.0]]

    References:
        Du et al., `Topology Adaptive Graph Convolutional Networks
        <https://arxiv.org/abs/1710.10370>`_, 2017.
    """
    features = _checks.as_float_array(features, "features")
    neighbors = jnp.asarray(neighbors)
    if features.shape[0] != neighbors.shape[0]:
        raise InvalidInputError(
            "features and neighbors must have one row per example, "
            f"got {features.shape} and {neighbors.shape}"
        )
    # On CPU a gather is as fast as a [batch, batch] product up to 128 examples, and
    # two to three times faster at 512.
    return jnp.mean(features[neighbors], axis=1)
