"""Losses that compare the similarities of examples, as each network sees them."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._numerics import l2_normalize
from jaxkd.losses._divergence import soft_target_divergence
from jaxkd.losses._embeddings import embedding_pair
from jaxkd.losses._inputs import check_rank, check_same_batch, common_arrays
from jaxkd.losses._invariance import Arguments, Declaration, Transformation

# Added to both probabilities under the logarithm, as published: a similarity of zero
# has a finite loss.
_PROBABILITY_EPSILON = 1e-7

_SEES_NO_BASIS = frozenset(
    {
        Transformation.STUDENT_FEATURE_SCALE,
        Transformation.FEATURE_SCALE,
        Transformation.STUDENT_CHANNEL_PERMUTATION,
        Transformation.CHANNEL_PERMUTATION,
        Transformation.STUDENT_ROTATION,
        Transformation.ROTATION,
    }
)
_SEES_COSINES = _SEES_NO_BASIS | {Transformation.EXAMPLE_SCALE}


def similarity_preserving(
    student_features: Float[ArrayLike, "batch *student_shape"],
    teacher_features: Float[ArrayLike, "batch *teacher_shape"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Squared difference of the examples' similarities, relative to each example's.

    With each example's features flattened to a row :math:`x_i` of :math:`X`,

    .. math::
        \ell_i = \frac{1}{b} \sum_j (G^s_{ij} - G^t_{ij})^2, \qquad
        G_{ij} = \frac{(X X^\top)_{ij}}{\lVert (X X^\top)_{i \cdot} \rVert_2}.

    Features that are all zero have a row of zeros, with a zero gradient.

    Args:
        student_features: Features of each example, of any shape.
        teacher_features: Those of the teacher; all but the batch may differ.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The mean is the squared Frobenius norm
        of the difference over :math:`b^2`.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If they have no features or not as many examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.eye(2), jnp.ones((2, 3))
        >>> print(losses.similarity_preserving(student, teacher).round(4))
        [0.2929 0.2929]

    References:
        Tung and Mori, `Similarity-Preserving Knowledge Distillation
        <https://arxiv.org/abs/1907.09682>`_, 2019, Eq. 1-4.
    """
    student, teacher = common_arrays(
        student_features=student_features,
        teacher_features=teacher_features,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    named = {"student_features": student, "teacher_features": teacher}
    for name, x in named.items():
        if x.ndim < 2 or 0 in x.shape:
            raise InvalidInputError(
                f"{name} must be [batch, ...] and not empty, got shape {x.shape}"
            )
    check_same_batch(**named)
    difference = _relative_similarities(student) - _relative_similarities(teacher)
    return jnp.mean(jnp.square(difference), axis=-1)


SIMILARITY_PRESERVING = Declaration(
    similarity_preserving,
    Arguments.FEATURE_MAPS,
    invariant=_SEES_NO_BASIS | {Transformation.POSITION_PERMUTATION},
)


def probabilistic_transfer(
    student_embeddings: Float[ArrayLike, "batch student_features"],
    teacher_embeddings: Float[ArrayLike, "batch teacher_features"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Divergence of the probabilities of picking a neighbour, by cosine similarity.

    With the cosines :math:`c_{ij}` of the examples and :math:`\epsilon = 10^{-7}`,

    .. math::
        \ell_i = \frac{1}{b} \sum_j
            p^t_{ij} \log \frac{p^t_{ij} + \epsilon}{p^s_{ij} + \epsilon}, \qquad
        p_{ij} = \frac{1 + c_{ij}}{\sum_k (1 + c_{ik})}.

    An example is its own neighbour too. A row of zeros has cosine zero with all
    examples, and a zero gradient.

    Args:
        student_embeddings: One row per example.
        teacher_embeddings: The same examples; the width may differ.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats over the batch size, at least float32. The mean is
        that over all :math:`b^2` pairs.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not matrices of equally many rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.eye(2), jnp.ones((2, 3))
        >>> print(losses.probabilistic_transfer(student, teacher).round(4))
        [0.0294 0.0294]

    References:
        Passalis and Tefas, `Learning Deep Representations with Probabilistic Knowledge
        Transfer <https://arxiv.org/abs/1803.10837>`_, 2018, Eq. 3-6.
    """
    student, teacher = embedding_pair(
        student_embeddings, teacher_embeddings, stop_teacher_gradient
    )
    q, p = _neighbor_probabilities(student), _neighbor_probabilities(teacher)
    log_ratio = jnp.log((p + _PROBABILITY_EPSILON) / (q + _PROBABILITY_EPSILON))
    return jnp.mean(p * log_ratio, axis=-1)


PROBABILISTIC_TRANSFER = Declaration(
    probabilistic_transfer, Arguments.EMBEDDINGS, invariant=_SEES_COSINES
)


def correlation_congruence_kernel(
    student_embeddings: Float[ArrayLike, "batch student_features"],
    teacher_embeddings: Float[ArrayLike, "batch teacher_features"],
    *,
    gamma: Real[ArrayLike, ""] = 0.4,
    order: int = 2,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Squared difference of the examples' correlations under a Gaussian kernel.

    With the cosines :math:`c_{ij}` of the examples, the kernel is expanded to order
    :math:`P`, because :math:`e^{-\gamma \lVert x - y \rVert^2}
    = e^{-2\gamma} e^{2\gamma x^\top y}` for vectors of length one:

    .. math::
        \ell_i = \frac{1}{b} \sum_j (K^s_{ij} - K^t_{ij})^2, \qquad
        K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} c_{ij}^p.

    The loss that benchmarks run under this name is :func:`correlation_congruence`.

    Args:
        student_embeddings: One row per example, scaled to unit length here.
        teacher_embeddings: The same examples; the width may differ.
        gamma: Width :math:`\gamma > 0` of the kernel, finite.
        order: Order :math:`P \ge 1` of the expansion.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The mean is the squared Frobenius norm
        of the difference over :math:`b^2`.

    Raises:
        TypeError: If the embeddings are not floating point or ``order`` no integer.
        ValueError: If they are not matrices of equally many rows, or a setting is out
            of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.eye(2), jnp.ones((2, 3))
        >>> print(losses.correlation_congruence_kernel(student, teacher).round(4))
        [0.1266 0.1266]

    References:
        Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019, Eq. 8-9.
    """
    _checks.check_finite_positive(gamma=gamma)
    _checks.check_at_least(1, order=order)
    student, teacher = embedding_pair(
        student_embeddings, teacher_embeddings, stop_teacher_gradient
    )
    gamma = jnp.asarray(gamma, student.dtype)

    def kernel(x: Array) -> Array:
        exponent = 2.0 * gamma * _cosines(x, x)
        series = jnp.ones_like(exponent)
        for p in range(order, 0, -1):  # Horner's rule
            series = 1.0 + series * exponent / p
        return jnp.exp(-2.0 * gamma) * series

    return jnp.mean(jnp.square(kernel(student) - kernel(teacher)), axis=-1)


CORRELATION_CONGRUENCE_KERNEL = Declaration(
    correlation_congruence_kernel, Arguments.EMBEDDINGS, invariant=_SEES_COSINES
)


def self_supervised_similarity(
    student_views: Float[ArrayLike, "views student_features"],
    student_originals: Float[ArrayLike, "originals student_features"],
    teacher_views: Float[ArrayLike, "views teacher_features"],
    teacher_originals: Float[ArrayLike, "originals teacher_features"],
    *,
    temperature: Real[ArrayLike, ""] = 0.5,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " views"]:
    r"""Divergence of the similarities of transformed images to the original ones.

    With the cosines :math:`A_{ij}` of view :math:`i` and original :math:`j` and
    :math:`B_{i \cdot} = \mathrm{softmax}(A_{i \cdot}/\tau)`,

    .. math::
        \ell_i = \tau^2 \sum_j B^t_{ij} (\log B^t_{ij} - \log B^s_{ij}), \qquad
        \frac{\partial \ell_i}{\partial A^s_{ij}} = \tau (B^s_{ij} - B^t_{ij}).

    It does not need to know which original a view comes from. The paper transfers only
    rows in which the teacher finds it, or nearly does: weight the values for that.

    Args:
        student_views: The student's embeddings of transformed images.
        student_originals: The student's embeddings of the originals.
        teacher_views: The teacher's embeddings of the same transformed images.
        teacher_originals: The teacher's embeddings of the same originals.
        temperature: :math:`\tau > 0`; ``inf`` is allowed.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each view, :math:`\tau^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If the shapes do not fit together, or if a concrete temperature is
            not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> views, originals = jnp.array([[1.0, 1.0], [1.0, 0.0]]), jnp.eye(2)
        >>> value = losses.self_supervised_similarity(
        ...     views, originals, 2.0 * jnp.eye(2), originals
        ... )
        >>> print(value.round(3))
        [0.082 0.381]

    References:
        Xu et al., `Knowledge Distillation Meets Self-Supervision
        <https://arxiv.org/abs/2006.07114>`_, 2020, Eq. 5-6.
    """
    views_s, originals_s, views_t, originals_t = common_arrays(
        student_views=student_views,
        student_originals=student_originals,
        teacher_views=teacher_views,
        teacher_originals=teacher_originals,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    _checks.check_positive(temperature=temperature)
    check_rank(2, "[views, features]", student_views=views_s, teacher_views=views_t)
    check_rank(
        2,
        "[originals, features]",
        student_originals=originals_s,
        teacher_originals=originals_t,
    )
    check_same_batch(student_views=views_s, teacher_views=views_t)
    check_same_batch(student_originals=originals_s, teacher_originals=originals_t)
    for network, views, originals in (
        ("student", views_s, originals_s),
        ("teacher", views_t, originals_t),
    ):
        if views.shape[1] != originals.shape[1]:
            raise InvalidInputError(
                f"{network}_views and {network}_originals must have the same width, "
                f"got shapes {views.shape} and {originals.shape}"
            )
    return soft_target_divergence(
        _cosines(views_s, originals_s),
        _cosines(views_t, originals_t),
        jnp.asarray(temperature, views_s.dtype),
    )


SELF_SUPERVISED_SIMILARITY = Declaration(
    self_supervised_similarity, Arguments.EMBEDDING_PAIRS, invariant=_SEES_COSINES
)


def _cosines(
    a: Float[Array, "rows features"], b: Float[Array, "columns features"]
) -> Float[Array, "rows columns"]:
    return jnp.matmul(l2_normalize(a), l2_normalize(b).T, precision="highest")


def _relative_similarities(x: Float[Array, "batch ..."]) -> Float[Array, "batch batch"]:
    rows = x.reshape(len(x), -1)
    return l2_normalize(jnp.matmul(rows, rows.T, precision="highest"))


def _neighbor_probabilities(
    x: Float[Array, "batch features"],
) -> Float[Array, "batch batch"]:
    # The cosine of opposite vectors may round to a little below -1.
    similarities = jnp.maximum(0.5 * (_cosines(x, x) + 1.0), 0.0)
    return similarities / jnp.sum(similarities, axis=-1, keepdims=True)
