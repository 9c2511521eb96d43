"""Nearest-neighbor graphs over a batch, and the mean over neighbors."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Integer

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize


def nearest_neighbors(
    logits: Float[ArrayLike, "batch classes"], *, k: int
) -> Int[Array, "batch neighbors"]:
    r"""Find the ``k`` examples with the most similar predictions, itself first.

    The similarity is the cosine of :math:`p_i = \mathrm{softmax}(z_i)`,

    .. math::
        s_{ij} = \frac{p_i^\top p_j}{\lVert p_i \rVert \, \lVert p_j \rVert},

    so adding a constant to a row of logits does not change the graph, and permuting the
    batch permutes the graph. Of equally similar examples, the one with the lower row
    number is chosen. No gradient flows through the graph.

    Args:
        logits: Unnormalized log-probabilities :math:`z`.
        k: Number of neighbors, including the example itself. If the batch has fewer
            than ``k`` examples, the graph is complete.

    Returns:
        Row numbers, int32, of shape ``[batch, min(k, batch)]``.

    Raises:
        TypeError: If the logits are not floating point or ``k`` is not an integer.
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
    r"""Find the ``k`` examples with the largest cosine similarity, itself first.

    The lengths of the vectors do not matter. The similarity of a zero vector to all
    others is zero. Of equally similar examples, the one with the lower row number is
    chosen. No gradient flows through the graph.

    Args:
        vectors: One row per example, such as embeddings.
        k: Number of neighbors, as for :func:`nearest_neighbors`.

    Returns:
        Row numbers, int32, of shape ``[batch, min(k, batch)]``.

    Raises:
        TypeError: If the vectors are not floating point or ``k`` is not an integer.
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
    # Confident predictions differ in their last bits, which faster matmuls lose.
    similarity = jnp.matmul(directions, directions.T, precision="highest")
    # Each example must be in its own list despite rounding or k equal rows.
    similarity = jnp.where(jnp.eye(batch, dtype=bool), jnp.inf, similarity)
    return jax.lax.top_k(similarity, min(k, batch))[1]


def propagate(
    features: Float[ArrayLike, "batch dim"], neighbors: Integer[ArrayLike, "batch k"]
) -> Float[Array, "batch dim"]:
    r"""Replace each row by the mean of its neighbors' rows.

    This is one hop on a graph of constant in-degree :math:`k`:

    .. math::
        (P h)_i = \frac{1}{k} \sum_{j \in \mathcal{N}(i)} h_j, \qquad
        \nabla_h \langle g, P h \rangle = P^\top g.

    Args:
        features: One row per example.
        neighbors: Row numbers of each example's neighbors.

    Returns:
        The means, in the dtype of ``features`` but at least float32.

    Raises:
        TypeError: If the features are not floating point, or row numbers not integers.
        ValueError: If features and neighbors have different numbers of examples, or a
            concrete row number is not one of the batch's.

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
    neighbors = _checks.as_row_numbers(neighbors, "neighbors")
    if features.shape[0] != neighbors.shape[0]:
        raise InvalidInputError(
            "features and neighbors must have one row per example, "
            f"got {features.shape} and {neighbors.shape}",
            argument="neighbors",
        )
    _checks.check_numbers_below(len(features), "examples", neighbors=neighbors)
    # On a CPU, a gather is as fast as a [batch, batch] product up to 128 examples and
    # two to three times faster at 512.
    return jnp.mean(features[neighbors], axis=1)
