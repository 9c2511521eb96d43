"""Losses that compare the distances and angles among the examples of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd._math import l2_normalize
from jaxkd.losses._arguments import embedding_pair
from jaxkd.losses._symmetries import Arguments, Transformation, declare

# Number of anchors that are compared with the whole batch at a time: enough to keep a
# device busy, few enough that memory does not grow with the cube of the batch size.
_ANCHORS_AT_A_TIME = 16


_SIMILARITY_INVARIANT = frozenset(
    {
        Transformation.STUDENT_FEATURE_SCALE,
        Transformation.FEATURE_SCALE,
        Transformation.STUDENT_TRANSLATION,
        Transformation.TRANSLATION,
        Transformation.STUDENT_CHANNEL_PERMUTATION,
        Transformation.CHANNEL_PERMUTATION,
        Transformation.STUDENT_ROTATION,
        Transformation.ROTATION,
    }
)


@declare(Arguments.EMBEDDINGS, invariant=_SIMILARITY_INVARIANT)
def relational_distance(
    student_embeddings: Float[ArrayLike, "batch student_features"],
    teacher_embeddings: Float[ArrayLike, "batch teacher_features"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compare the normalized distances between the examples of a batch.

    With :math:`d_{ij} = \lVert x_i - x_j \rVert`, divided by its mean :math:`\mu` over
    the positive entries, and Huber's function :math:`h`,

    .. math::
        \ell_i = \frac{1}{b} \sum_j
            h\!\left(\frac{d^s_{ij}}{\mu^s} - \frac{d^t_{ij}}{\mu^t}\right), \qquad
        h(x) = \begin{cases}
            \frac{1}{2} x^2 & \lvert x \rvert \le 1 \\
            \lvert x \rvert - \frac{1}{2} & \text{otherwise.}
        \end{cases}

    The mean depends on all examples, and the gradient flows through it. Examples that
    coincide have distance zero, with a zero gradient. A batch of equal examples has no
    scale, so its distances stay zero.

    Args:
        student_embeddings: One row per example.
        teacher_embeddings: The same examples; the width may differ.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each anchor :math:`i`, at least float32. Its mean is the mean over all
        pairs.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not matrices of equally many rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[0.0], [1.0], [2.0]])
        >>> teacher = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> print(losses.relational_distance(student, teacher).round(3))
        [0.042 0.042 0.083]

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019, Sec. 3.2.1.
    """
    student, teacher = embedding_pair(
        student_embeddings, teacher_embeddings, stop_teacher_gradient
    )
    difference = _relative_distances(student) - _relative_distances(teacher)
    return jnp.mean(_huber(difference), axis=-1)


@declare(Arguments.EMBEDDINGS, invariant=_SIMILARITY_INVARIANT)
def relational_angle(
    student_embeddings: Float[ArrayLike, "batch student_features"],
    teacher_embeddings: Float[ArrayLike, "batch teacher_features"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compare the angles that the examples of a batch form.

    With :math:`e_{ij} = (x_j - x_i)/\lVert x_j - x_i \rVert` and Huber's function
    :math:`h` of :func:`relational_distance`,

    .. math::
        \ell_i = \frac{1}{b^2} \sum_{j,k}
            h\!\left((e^s_{ij})^\top e^s_{ik} - (e^t_{ij})^\top e^t_{ik}\right).

    Where two examples coincide :math:`e_{ij}` is zero, with a zero gradient. The loss
    forms triplets for a few vertices at a time, so memory grows with :math:`b^2`.

    Args:
        student_embeddings: One row per example.
        teacher_embeddings: The same examples; the width may differ.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each vertex :math:`i`, at least float32. Its mean is the mean over all
        triplets.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not matrices of equally many rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[0.0], [1.0], [2.0]])
        >>> teacher = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> print(losses.relational_angle(student, teacher).round(4))
        [0.1111 0.2444 0.0044]

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019, Sec. 3.2.2.
    """
    student, teacher = embedding_pair(
        student_embeddings, teacher_embeddings, stop_teacher_gradient
    )

    def loss(student_vertex: Array, teacher_vertex: Array) -> Array:
        difference = _cosines(student, student_vertex) - _cosines(
            teacher, teacher_vertex
        )
        return jnp.mean(_huber(difference))

    return _for_each_anchor(loss, student, teacher)


def _relative_distances(
    x: Float[Array, "batch features"],
) -> Float[Array, "batch batch"]:
    """Divide Euclidean distances by their mean over examples that do not coincide."""
    # From differences: an inner product would lose the digits of small distances.
    squared = _for_each_anchor(
        lambda anchor: jnp.sum(jnp.square(x - anchor[None]), axis=-1), x
    )
    apart = squared != 0.0  # NaN must not pass for zero
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    count = jnp.sum(apart, dtype=x.dtype)
    mean = jnp.sum(distances) / jnp.maximum(count, 1.0)
    return distances / jnp.where(count > 0.0, mean, 1.0)


def _cosines(
    x: Float[Array, "batch features"], vertex: Float[Array, " features"]
) -> Float[Array, "batch batch"]:
    """Compute the cosines of the angles at the vertex between all pairs of examples."""
    directions = l2_normalize(x - vertex[None])
    return jnp.matmul(directions, directions.T, precision="highest")


def _huber(x: Float[Array, "..."]) -> Float[Array, "..."]:
    size = jnp.abs(x)
    return jnp.where(size <= 1.0, 0.5 * jnp.square(x), size - 0.5)


def _for_each_anchor(
    function: Callable[..., Array], *x: Float[Array, "batch _"]
) -> Float[Array, "batch ..."]:
    """Map a function over anchors, recomputing its results for the gradient."""
    of_anchor = jax.checkpoint(lambda rows: function(*rows))
    return jax.lax.map(of_anchor, x, batch_size=_ANCHORS_AT_A_TIME)
