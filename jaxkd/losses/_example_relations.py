"""Losses that compare the similarities among the examples of a batch."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize
from jaxkd.losses._arguments import (
    check_rank,
    check_same_batch,
    common_arrays,
    embedding_pair,
)
from jaxkd.losses._symmetries import (
    BASIS_INVARIANT,
    COSINE_INVARIANT,
    Arguments,
    Transformation,
    declare,
)

# Added to both probabilities inside the logarithm, as published: a similarity of zero
# then has a finite loss.
_PROBABILITY_EPSILON = 1e-7

# The largest order of a kernel's expansion. Each term is an operation of the program.
MOST_TERMS = 64


@declare(
    Arguments.FEATURE_MAPS,
    invariant=BASIS_INVARIANT | {Transformation.POSITION_PERMUTATION},
)
def similarity_preserving(
    student_features: Float[ArrayLike, "batch *student_shape"],
    teacher_features: Float[ArrayLike, "batch *teacher_shape"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute the squared difference of the examples' normalized similarities.

    With each example's features flattened to a row :math:`x_i` of :math:`X`,

    .. math::
        \ell_i = \frac{1}{b} \sum_j (G^s_{ij} - G^t_{ij})^2, \qquad
        G_{ij} = \frac{(X X^\top)_{ij}}{\lVert (X X^\top)_{i \cdot} \rVert_2}.

    If all features of an example are zero, its row is zero, with a zero gradient.

    Args:
        student_features: Features of each example, of any shape.
        teacher_features: Features of the teacher; all axes but the first may differ.
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
                f"{name} must be [batch, ...] and not empty, got shape {x.shape}",
                argument=name,
            )
    check_same_batch(**named)
    difference = _relative_similarities(student) - _relative_similarities(teacher)
    return jnp.mean(jnp.square(difference), axis=-1)


@declare(Arguments.EMBEDDINGS, invariant=COSINE_INVARIANT)
def probabilistic_transfer(
    student_embeddings: Float[ArrayLike, "batch student_features"],
    teacher_embeddings: Float[ArrayLike, "batch teacher_features"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute the divergence of neighbor probabilities, from cosine similarities.

    With the cosines :math:`c_{ij}` of the examples and :math:`\epsilon = 10^{-7}`,

    .. math::
        \ell_i = \frac{1}{b} \sum_j
            p^t_{ij} \log \frac{p^t_{ij} + \epsilon}{p^s_{ij} + \epsilon}, \qquad
        p_{ij} = \frac{1 + c_{ij}}{\sum_k (1 + c_{ik})}.

    An example is also its own neighbor. A row of zeros has cosine zero with all
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


@declare(
    Arguments.EMBEDDINGS,
    invariant=frozenset(
        {Transformation.TRANSLATION, Transformation.CHANNEL_PERMUTATION}
    ),
    equivariant=frozenset(),
)
def correlation_congruence(
    student_embeddings: Float[ArrayLike, "batch features"],
    teacher_embeddings: Float[ArrayLike, "batch features"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch-1"]:
    r"""Compute the correlation of the errors of consecutive examples in the batch.

    Benchmarks run this loss under the name of correlation congruence. With
    :math:`\delta_i = \lvert s_i - t_i \rvert`, by components,

    .. math::
        \ell_i = \delta_i^\top \delta_{i+1}, \qquad
        \nabla_{s_i} \sum_k \ell_k
            = \mathrm{sign}(s_i - t_i) \odot (\delta_{i-1} + \delta_{i+1}),

    with :math:`\delta_0 = \delta_{b+1} = 0`. It depends on the order of the examples.
    The paper's loss is :func:`correlation_congruence_kernel`.

    Args:
        student_embeddings: One row per example.
        teacher_embeddings: The same examples in a space of the same width.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example but the last, together with the one after it, at least
        float32. The caller reduces it.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not matrices of one shape, with at least two rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
        >>> print(losses.correlation_congruence(student, jnp.ones((3, 2))))
        [1. 2.]

    References:
        After Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019; as implemented by Tian et al.,
        `Contrastive Representation Distillation <https://arxiv.org/abs/1910.10699>`_,
        2020, whose benchmark others follow.
    """
    student, teacher = common_arrays(
        student_embeddings=student_embeddings,
        teacher_embeddings=teacher_embeddings,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    named = {"student_embeddings": student, "teacher_embeddings": teacher}
    check_rank(2, "[batch, features]", **named)
    _checks.check_same_shape(**named)
    if len(student) < 2:
        raise InvalidInputError(
            "student_embeddings must hold at least 2 examples, because each is "
            f"compared with the next, got shape {student.shape}",
            argument="student_embeddings",
        )
    error = jnp.abs(student - teacher)
    return jnp.sum(error[:-1] * error[1:], axis=-1)


@declare(Arguments.EMBEDDINGS, invariant=COSINE_INVARIANT)
def correlation_congruence_kernel(
    student_embeddings: Float[ArrayLike, "batch student_features"],
    teacher_embeddings: Float[ArrayLike, "batch teacher_features"],
    *,
    gamma: Real[ArrayLike, ""] = 0.4,
    order: int = 2,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute the squared difference of correlations under a Gaussian kernel.

    With the cosines :math:`c_{ij}` of the examples, the kernel is expanded to order
    :math:`P`, because :math:`e^{-\gamma \lVert x - y \rVert^2}
    = e^{-2\gamma} e^{2\gamma x^\top y}` for vectors of length one:

    .. math::
        \ell_i = \frac{1}{b} \sum_j (K^s_{ij} - K^t_{ij})^2, \qquad
        K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} c_{ij}^p.

    Benchmarks run :func:`correlation_congruence` under this name.

    Args:
        student_embeddings: One row per example, scaled to unit length here.
        teacher_embeddings: The same examples; the width may differ.
        gamma: Width :math:`\gamma > 0` of the kernel, finite.
        order: Order :math:`P` of the expansion, from 1 to 64.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The mean is the squared Frobenius norm
        of the difference over :math:`b^2`.

    Raises:
        TypeError: If the embeddings are not floating point or ``order`` is not an
            integer.
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
    _checks.check_count(MOST_TERMS, order=order)
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
