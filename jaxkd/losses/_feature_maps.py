"""Losses that compare feature maps element by element."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.losses._arguments import check_feature_maps, common_arrays
from jaxkd.losses._symmetries import Arguments, Transformation, declare

# Keeps a learned variance away from zero, as published.
_LEAST_VARIANCE = 1e-5


_DIFFERENCE_INVARIANT = frozenset(
    {
        Transformation.TRANSLATION,
        Transformation.CHANNEL_PERMUTATION,
        Transformation.ROTATION,
        Transformation.POSITION_PERMUTATION,
    }
)


@declare(Arguments.FEATURE_MAPS, invariant=_DIFFERENCE_INVARIANT)
def hint(
    student_features: Float[ArrayLike, "batch *shape"],
    teacher_features: Float[ArrayLike, "batch *shape"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute the mean squared difference of features (FitNets' hint).

    With :math:`n` features per example,

    .. math::
        \ell = \frac{1}{n} \lVert s - t \rVert^2, \qquad
        \nabla_s \ell = \frac{2}{n} (s - t).

    Args:
        student_features: Feature maps or embeddings :math:`s` of the student, mapped to
            the teacher's shape by a regressor if it differs.
        teacher_features: Features :math:`t` of the teacher.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in the squared unit of the features, at least float32. The
        caller reduces it.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the shapes differ, or if there are no features.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 1.0]])
        >>> print(losses.hint(student, teacher))
        [2.5]

    References:
        Romero et al., `FitNets: Hints for Thin Deep Nets
        <https://arxiv.org/abs/1412.6550>`_, 2015, Eq. 3.
    """
    student, teacher = common_arrays(
        student_features=student_features,
        teacher_features=teacher_features,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    _checks.check_same_shape(student_features=student, teacher_features=teacher)
    if student.ndim < 2 or 0 in student.shape[1:]:
        raise InvalidInputError(
            "student_features and teacher_features must be [batch, ...] with at least "
            f"one feature per example, got shape {student.shape}",
            argument="student_features",
        )
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


@declare(
    Arguments.FEATURE_MAPS, invariant=_DIFFERENCE_INVARIANT, settings={"log_scale": 0.0}
)
def variational_information(
    student_prediction: Float[ArrayLike, "*batch h w c"],
    teacher_features: Float[ArrayLike, "*batch h w c"],
    log_scale: Float[ArrayLike, "..."],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the negative log-likelihood of the teacher's features under a Gaussian.

    Up to a constant, this bounds the negative mutual information of student and
    teacher. With means :math:`\mu` that a regressor predicts from the student's
    features, one variance :math:`\sigma_c^2` per channel that is learned through
    :math:`\lambda_c`, and :math:`n` features per example,

    .. math::
        \ell = \frac{1}{2n} \sum_{hwc} \left[
            \frac{(\mu_{hwc} - t_{hwc})^2}{\sigma_c^2} + \log \sigma_c^2 \right], \qquad
        \sigma_c^2 = \log(1 + e^{\lambda_c}) + 10^{-5}, \qquad
        \frac{\partial \ell}{\partial \mu_{hwc}} =
            \frac{\mu_{hwc} - t_{hwc}}{n \sigma_c^2}.

    Args:
        student_prediction: Means :math:`\mu`.
        teacher_features: The teacher's feature maps :math:`t`.
        log_scale: :math:`\lambda`, one number for each channel or one for all. It has a
            gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats per feature, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If an argument is not floating point.
        ValueError: If the shapes differ, the arrays are not feature maps, or
            ``log_scale`` is neither a scalar nor one number per channel.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> prediction, teacher = jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 3))
        >>> log_scale = jnp.zeros(3)  # a variance of log 2
        >>> value = losses.variational_information(prediction, teacher, log_scale)
        >>> print(value.round(4))
        [0.5381]

    References:
        Ahn et al., `Variational Information Distillation for Knowledge Transfer
        <https://arxiv.org/abs/1904.05835>`_, 2019.
    """
    prediction, teacher, raw = common_arrays(
        student_prediction=student_prediction,
        teacher_features=teacher_features,
        log_scale=log_scale,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    check_feature_maps(student_prediction=prediction, teacher_features=teacher)
    _checks.check_same_shape(student_prediction=prediction, teacher_features=teacher)
    channels = teacher.shape[-1]
    if raw.shape not in ((), (channels,)):
        raise InvalidInputError(
            "log_scale must be a scalar or hold one number for each channel, got shape "
            f"{raw.shape} for feature maps of shape {teacher.shape}",
            argument="log_scale",
        )
    squares = jnp.mean(jnp.square(prediction - teacher), axis=(-3, -2))
    variance = jnp.broadcast_to(jax.nn.softplus(raw) + _LEAST_VARIANCE, squares.shape)
    return 0.5 * jnp.mean(squares / variance + jnp.log(variance), axis=-1)


@declare(
    Arguments.FEATURE_MAPS,
    invariant=frozenset(
        {Transformation.CHANNEL_PERMUTATION, Transformation.POSITION_PERMUTATION}
    ),
    zero_at_equal=False,
)
def activation_boundary(
    student_preactivations: Float[ArrayLike, "*batch h w c"],
    teacher_preactivations: Float[ArrayLike, "*batch h w c"],
    *,
    margin: Real[ArrayLike, ""] = 1.0,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute a squared hinge loss on which neurons are active in the teacher.

    With :math:`y = 1` where the teacher's neuron is active, :math:`t > 0`, else
    :math:`y = -1`, and margin :math:`m`,

    .. math::
        \ell = \sum_{hwc} \max(0, m - y s)^2, \qquad
        \nabla_s \ell = -2 y \max(0, m - y s).

    Only the signs of the teacher's preactivations matter, so none of them has a
    gradient.

    Args:
        student_preactivations: Feature maps :math:`s` before their activation, mapped
            to the teacher's shape by a connector.
        teacher_preactivations: Features :math:`t` of the teacher.
        margin: Required distance :math:`m > 0` of a neuron from the boundary.
        stop_teacher_gradient: Accepted as by every loss; the teacher's gradient is zero
            in any case.

    Returns:
        Loss of each example, a sum over its neurons in the squared unit of the
        features, at least float32. The caller reduces it.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the shapes differ or the arrays are not feature maps, or if a
            concrete margin is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([3.0, 0.5, 0.5, -3.0]).reshape(1, 1, 1, 4)
        >>> teacher = jnp.array([1.0, 1.0, -1.0, -1.0]).reshape(1, 1, 1, 4)
        >>> print(losses.activation_boundary(student, teacher))
        [2.5]

    References:
        Heo et al., `Knowledge Transfer via Distillation of Activation Boundaries Formed
        by Hidden Neurons <https://arxiv.org/abs/1811.03233>`_, 2019.
    """
    student, teacher = common_arrays(
        student_preactivations=student_preactivations,
        teacher_preactivations=teacher_preactivations,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    check_feature_maps(student_preactivations=student, teacher_preactivations=teacher)
    _checks.check_same_shape(
        student_preactivations=student, teacher_preactivations=teacher
    )
    _checks.check_finite_positive(margin=margin)
    wrong = jnp.where(teacher > 0, -student, student)
    hinge = jax.nn.relu(wrong + jnp.asarray(margin, student.dtype))
    return jnp.sum(jnp.square(hinge), axis=(-3, -2, -1))
