"""Losses that compare where, or in which patterns, feature maps are active."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._math import l2_normalize, pool_to_match
from jaxkd.losses._arguments import check_feature_maps, common_arrays
from jaxkd.losses._symmetries import Arguments, Transformation, declare

_ROTATIONS = frozenset({Transformation.STUDENT_ROTATION, Transformation.ROTATION})


_PATTERN_INVARIANT = frozenset(
    {
        Transformation.STUDENT_FEATURE_SCALE,
        Transformation.FEATURE_SCALE,
        Transformation.EXAMPLE_SCALE,
        Transformation.STUDENT_CHANNEL_PERMUTATION,
        Transformation.CHANNEL_PERMUTATION,
        Transformation.POSITION_PERMUTATION,
    }
)


# At the power 2 a position counts by the length of its feature vector.
@declare(Arguments.FEATURE_MAPS, invariant=_PATTERN_INVARIANT | _ROTATIONS)
def attention_transfer(
    student_features: Float[ArrayLike, "*batch h1 w1 c1"],
    teacher_features: Float[ArrayLike, "*batch h2 w2 c2"],
    *,
    power: int = 2,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the mean squared difference of the networks' spatial attention.

    Attention is the mean power of a position's channels, scaled to unit length over the
    :math:`n` positions:

    .. math::
        a(x)_i = \frac{1}{C} \sum_c x_{ic}^p, \qquad
        A(x) = \frac{a(x)}{\lVert a(x) \rVert_2}, \qquad
        \ell = \frac{1}{n} \lVert A(s) - A(t) \rVert^2,

    .. math::
        \frac{\partial \ell}{\partial s_{ic}} = \frac{2 p\, s_{ic}^{p-1}}
            {n C \lVert a(s) \rVert} \left[ A(s)_i\, A(s)^\top A(t) - A(t)_i \right].

    If the maps differ in size, the larger one is average-pooled to the smaller;
    channels may differ. A map of zeros has the attention :math:`A = 0` and no gradient.

    Args:
        student_features: Feature maps :math:`s` of the student.
        teacher_features: Feature maps :math:`t` of the teacher.
        power: The exponent :math:`p \ge 1`.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If the features are not floating point, or the power is not an
            integer.
        ValueError: If the arguments are not feature maps of the same examples, or the
            power is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([0.0, 2.0]).reshape(1, 1, 2, 1)
        >>> teacher = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
        >>> print(losses.attention_transfer(student, teacher))
        [1.]

    References:
        Zagoruyko and Komodakis, `Paying More Attention to Attention
        <https://arxiv.org/abs/1612.03928>`_, 2017, Eq. 2; squared and averaged as in
        the authors' code.
    """
    student, teacher = _pooled(
        student_features, teacher_features, stop_teacher_gradient
    )
    difference = _attention(student, power) - _attention(teacher, power)
    return jnp.mean(jnp.square(difference), axis=-1)


@declare(Arguments.FEATURE_MAPS, invariant=_PATTERN_INVARIANT | _ROTATIONS)
def factor_transfer(
    student_factor: Float[ArrayLike, "*batch h1 w1 c1"],
    teacher_factor: Float[ArrayLike, "*batch h2 w2 c2"],
    *,
    power: int = 2,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the mean absolute difference of two factors' spatial attention.

    With the attention :math:`A` of :func:`attention_transfer` over :math:`n` positions,

    .. math::
        \ell = \frac{1}{n} \sum_i \left| A(s)_i - A(t)_i \right|.

    With :math:`g_i = \mathrm{sign}(A(s)_i - A(t)_i)`, 0 where they are equal,

    .. math::
        \frac{\partial \ell}{\partial s_{ic}} = \frac{p\, s_{ic}^{p-1}}
            {n C \lVert a(s) \rVert} \left[ g_i - A(s)_i\, A(s)^\top g \right].

    Args:
        student_factor: Output :math:`s` of the translator, from the student's features.
        teacher_factor: Output :math:`t` of the paraphraser, from the teacher's
            features.
        power: The exponent :math:`p \ge 1`.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If the factors are not floating point, or the power is not an
            integer.
        ValueError: If the arguments are not feature maps of the same examples, or the
            power is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([0.0, 2.0]).reshape(1, 1, 2, 1)
        >>> teacher = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
        >>> print(losses.factor_transfer(student, teacher))
        [1.]

    References:
        Kim et al., `Paraphrasing Complex Network: Network Compression via Factor
        Transfer <https://arxiv.org/abs/1802.04977>`_, 2018; with the attention of
        the factors, as in published benchmarks.
    """
    student, teacher = _pooled(
        student_factor, teacher_factor, stop_teacher_gradient, kind="factor"
    )
    difference = _attention(student, power) - _attention(teacher, power)
    return jnp.mean(jnp.abs(difference), axis=-1)


@declare(Arguments.FEATURE_MAPS, invariant=_PATTERN_INVARIANT)
def neuron_selectivity(
    student_features: Float[ArrayLike, "*batch h1 w1 c1"],
    teacher_features: Float[ArrayLike, "*batch h2 w2 c2"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the maximum mean discrepancy between the channels' activation patterns.

    Each channel is one sample: its map, flattened and scaled to unit length,
    :math:`\hat s_i` and :math:`\hat t_j`. With the kernel
    :math:`k(a, b) = (a^\top b)^2`

    .. math::
        \ell = \operatorname*{mean}_{j j'} k(\hat t_j, \hat t_{j'})
             + \operatorname*{mean}_{i i'} k(\hat s_i, \hat s_{i'})
             - 2 \operatorname*{mean}_{i j} k(\hat s_i, \hat t_j)
             = \lVert M_s - M_t \rVert_F^2, \qquad
        \frac{\partial \ell}{\partial \hat s_i} = \frac{4}{C_s} (M_s - M_t)\, \hat s_i,

    where :math:`M_s` is the mean of :math:`\hat s_i \hat s_i^\top` over the student's
    :math:`C_s` channels. The loss is computed in whichever form has the smaller
    matrices: channels by channels, or positions by positions.

    If the maps differ in size, the larger one is average-pooled to the smaller;
    channels may differ. A channel of zeros stays zero and has no gradient.

    Args:
        student_features: Feature maps :math:`s` of the student.
        teacher_features: Feature maps :math:`t` of the teacher.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the arguments are not feature maps of the same examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)
        >>> teacher = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
        >>> print(losses.neuron_selectivity(student, teacher).round(4))
        [1.28]

    References:
        Huang and Wang, `Like What You Like: Knowledge Distill via Neuron Selectivity
        Transfer <https://arxiv.org/abs/1707.01219>`_, 2017, with the polynomial
        kernel of degree 2.
    """
    student, teacher = (
        l2_normalize(_flat(x), axis=-2)
        for x in _pooled(student_features, teacher_features, stop_teacher_gradient)
    )
    positions = student.shape[-2]
    if positions <= max(student.shape[-1], teacher.shape[-1]):
        difference = _second_moment(student) - _second_moment(teacher)
        return jnp.sum(jnp.square(difference), axis=(-2, -1))
    return (
        _mean_kernel(teacher, teacher)
        + _mean_kernel(student, student)
        - 2.0 * _mean_kernel(student, teacher)
    )


def _pooled(
    student_input: ArrayLike,
    teacher_input: ArrayLike,
    stop_teacher_gradient: bool,
    *,
    kind: str = "features",
) -> tuple[Array, Array]:
    """Convert both maps to one dtype and pool them to the same height and width."""
    names = f"student_{kind}", f"teacher_{kind}"
    student, teacher = common_arrays(
        stop_teacher_gradient=stop_teacher_gradient,
        **dict(zip(names, (student_input, teacher_input), strict=True)),
    )
    check_feature_maps(**dict(zip(names, (student, teacher), strict=True)))
    return pool_to_match(student, teacher)


def _flat(x: Float[Array, "*batch h w c"]) -> Float[Array, "*batch positions c"]:
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def _attention(
    x: Float[Array, "*batch h w c"], power: int
) -> Float[Array, "*batch positions"]:
    """Return the mean power over channels, normalized over the positions."""
    _checks.check_at_least(1, power=power)
    return l2_normalize(jnp.mean(_flat(x) ** power, axis=-1))


def _second_moment(
    x: Float[Array, "*batch positions c"],
) -> Float[Array, "*batch positions positions"]:
    """Return the mean of the channels' outer products."""
    return jnp.einsum("...pc,...qc->...pq", x, x) / x.shape[-1]


def _mean_kernel(
    a: Float[Array, "*batch positions c1"], b: Float[Array, "*batch positions c2"]
) -> Float[Array, "*batch"]:
    """Return the mean squared inner product over all pairs of channels."""
    return jnp.mean(jnp.square(jnp.einsum("...pi,...pj->...ij", a, b)), axis=(-2, -1))
