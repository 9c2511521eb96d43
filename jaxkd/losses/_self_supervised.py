"""The loss that compares similarities of transformed images to the originals."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize, soft_target_divergence
from jaxkd.losses._arguments import check_rank, check_same_batch, common_arrays
from jaxkd.losses._symmetries import COSINE_INVARIANT, Arguments, declare


@declare(Arguments.EMBEDDING_PAIRS, invariant=COSINE_INVARIANT)
def self_supervised_similarity(
    student_views: Float[ArrayLike, "views student_features"],
    student_originals: Float[ArrayLike, "originals student_features"],
    teacher_views: Float[ArrayLike, "views teacher_features"],
    teacher_originals: Float[ArrayLike, "originals teacher_features"],
    *,
    temperature: Real[ArrayLike, ""] = 0.5,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " views"]:
    r"""Compute the divergence of similarities between transformed images and originals.

    With the cosines :math:`A_{ij}` of view :math:`i` and original :math:`j` and
    :math:`B_{i \cdot} = \mathrm{softmax}(A_{i \cdot}/\tau)`,

    .. math::
        \ell_i = \tau^2 \sum_j B^t_{ij} (\log B^t_{ij} - \log B^s_{ij}), \qquad
        \frac{\partial \ell_i}{\partial A^s_{ij}} = \tau (B^s_{ij} - B^t_{ij}).

    The loss does not use which original a view comes from. The paper transfers only
    rows in which the teacher finds that original, or nearly does: weight the values
    accordingly.

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
    _checks.check_temperature(temperature=temperature)
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
                f"got shapes {views.shape} and {originals.shape}",
                argument=f"{network}_views",
            )
    return soft_target_divergence(
        _cosines(views_s, originals_s),
        _cosines(views_t, originals_t),
        jnp.asarray(temperature, views_s.dtype),
    )


def _cosines(
    a: Float[Array, "rows features"], b: Float[Array, "columns features"]
) -> Float[Array, "rows columns"]:
    return jnp.matmul(l2_normalize(a), l2_normalize(b).T, precision="highest")
