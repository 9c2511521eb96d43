"""Losses that compare the relations among the channels of a feature map."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize, pool_to_match, soft_target_divergence
from jaxkd.losses._arguments import common_arrays
from jaxkd.losses._symmetries import Arguments, Transformation, declare


@declare(
    Arguments.FEATURE_MAPS,
    invariant=frozenset(
        {
            Transformation.STUDENT_FEATURE_SCALE,
            Transformation.FEATURE_SCALE,
            Transformation.EXAMPLE_SCALE,
            Transformation.CHANNEL_PERMUTATION,
            Transformation.POSITION_PERMUTATION,
        }
    ),
)
def inter_channel_correlation(
    student_maps: Float[ArrayLike, "*batch student_height student_width channels"],
    teacher_maps: Float[ArrayLike, "*batch teacher_height teacher_width channels"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the squared difference of the channels' correlations over positions.

    With a map of :math:`c` channels as a matrix :math:`F` of positions by channels,
    and every row of a matrix divided by its norm,

    .. math::
        \ell = \frac{1}{c} \left\lVert
            \mathrm{rows}(F_s^\top F_s) - \mathrm{rows}(F_t^\top F_t)
        \right\rVert_F^2, \qquad
        \mathrm{rows}(G)_{kl} = \frac{G_{kl}}{\lVert G_{k \cdot} \rVert_2}.

    A channel that is zero everywhere has a row of zeros, with a zero gradient. The sum
    runs over all positions, so the two maps may differ in size.

    Args:
        student_maps: Feature maps, channels last.
        teacher_maps: Feature maps of the teacher, with as many channels.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If they have fewer than three axes, are empty, or differ in the
            leading axes or the number of channels.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> teacher = jnp.array([[[[1.0, 1.0]]]])
        >>> print(losses.inter_channel_correlation(student, teacher).round(4))
        [0.5858]

    References:
        Liu et al., `Exploring Inter-Channel Correlation for Diversity-preserved
        Knowledge Distillation <https://arxiv.org/abs/2202.03680>`_, 2021, Sec. 3.2;
        the rows' norms and the factor as in the authors' implementation.
    """
    student, teacher = _maps_of_equal_channels(
        student_maps, teacher_maps, stop_teacher_gradient
    )
    difference = _channel_correlations(student) - _channel_correlations(teacher)
    return jnp.sum(jnp.square(difference), axis=(-2, -1)) / student.shape[-1]


@declare(
    Arguments.FEATURE_MAPS,
    invariant=frozenset(
        {
            Transformation.STUDENT_TRANSLATION,
            Transformation.TRANSLATION,
            Transformation.CHANNEL_PERMUTATION,
            Transformation.POSITION_PERMUTATION,
        }
    ),
)
def channel_distributions(
    student_maps: Float[ArrayLike, "*batch student_height student_width channels"],
    teacher_maps: Float[ArrayLike, "*batch teacher_height teacher_width channels"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the KL divergence of each channel's distribution over the positions.

    With channel :math:`c` of a map as a vector :math:`x_c` of positions and
    :math:`p_c = \mathrm{softmax}(t_c/T)`, :math:`q_c = \mathrm{softmax}(s_c/T)`,

    .. math::
        \ell = \frac{T^2}{C} \sum_c \sum_i p_{ci} (\log p_{ci} - \log q_{ci}), \qquad
        \nabla_{s_c} \ell = \frac{T}{C} (q_c - p_c).

    If the maps differ in size, the larger one is average-pooled to the smaller.

    Args:
        student_maps: Feature maps, channels last.
        teacher_maps: Feature maps of the teacher, with as many channels.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If the maps have fewer than three axes, are empty, or differ in the
            leading axes or the number of channels, or if a concrete temperature is not
            positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
        >>> teacher = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
        >>> value = losses.channel_distributions(student, teacher, temperature=1.0)
        >>> print(value.round(4))
        [0.4621]

    References:
        Shu et al., `Channel-wise Knowledge Distillation for Dense Prediction
        <https://arxiv.org/abs/2011.13256>`_, 2021, Sec. 3.
    """
    student, teacher = _maps_of_equal_channels(
        student_maps, teacher_maps, stop_teacher_gradient
    )
    _checks.check_temperature(temperature=temperature)
    student, teacher = map(_by_channel, pool_to_match(student, teacher))
    divergence = soft_target_divergence(
        student, teacher, jnp.asarray(temperature, student.dtype)
    )
    return jnp.mean(divergence, axis=-1)


def _by_channel(
    maps: Float[Array, "*batch h w c"],
) -> Float[Array, "*batch c positions"]:
    return jnp.swapaxes(maps.reshape(*maps.shape[:-3], -1, maps.shape[-1]), -1, -2)


def _channel_correlations(
    maps: Float[Array, "*batch h w c"],
) -> Float[Array, "*batch c c"]:
    gram = jnp.einsum("...hwk,...hwl->...kl", maps, maps, precision="highest")
    return l2_normalize(gram)


def _maps_of_equal_channels(
    student_maps: ArrayLike, teacher_maps: ArrayLike, stop_teacher_gradient: bool
) -> list[Array]:
    """Convert both maps and raise unless their examples and channels correspond."""
    student, teacher = common_arrays(
        student_maps=student_maps,
        teacher_maps=teacher_maps,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    for name, x in (("student_maps", student), ("teacher_maps", teacher)):
        if x.ndim < 3 or 0 in x.shape[-3:]:
            raise InvalidInputError(
                f"{name} must be [..., height, width, channels] and not empty, got "
                f"shape {x.shape}",
                argument=name,
            )
    if (*student.shape[:-3], student.shape[-1]) != (
        *teacher.shape[:-3],
        teacher.shape[-1],
    ):
        raise InvalidInputError(
            "student_maps and teacher_maps must have the same examples and the same "
            f"number of channels, got shapes {student.shape} and {teacher.shape}; "
            "map the student's channels to the teacher's with a 1x1 convolution",
            argument="student_maps",
        )
    return [student, teacher]
