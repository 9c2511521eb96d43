"""Losses that compare the relation between two stages of each network."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize, pool_to_match, singular_vectors
from jaxkd.losses._arguments import stage_pairs
from jaxkd.losses._symmetries import Arguments, Transformation, declare

# The student has so many more candidate vectors than the teacher has vectors.
_SPARE_VECTORS = 3


@declare(
    Arguments.FEATURE_MAP_PAIRS,
    invariant=frozenset(
        {
            Transformation.CHANNEL_PERMUTATION,
            Transformation.ROTATION,
            Transformation.POSITION_PERMUTATION,
        }
    ),
)
def flow_of_solution(
    student_low: Float[ArrayLike, "batch h1 w1 c1"],
    student_high: Float[ArrayLike, "batch h2 w2 c2"],
    teacher_low: Float[ArrayLike, "batch h3 w3 c1"],
    teacher_high: Float[ArrayLike, "batch h4 w4 c2"],
    *,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compute the squared difference of the Gram matrices between two stages.

    With :math:`x` a network's lower and :math:`y` its higher feature map, the larger of
    them average-pooled to the smaller, which has :math:`P` positions,

    .. math::
        G_{ij} = \frac1P \sum_p x_{pi}\, y_{pj}, \qquad
        \ell = \frac{1}{c_1 c_2} \sum_{ij} (G^s_{ij} - G^t_{ij})^2, \qquad
        \nabla_{x^s} \ell = \frac{2}{P c_1 c_2}\, y^s (G^s - G^t)^\top,

    and :math:`\nabla_{y^s} \ell` likewise with :math:`x^s (G^s - G^t)`. A map that is
    pooled gets the gradient spread over its bins.

    Args:
        student_low: Feature map of an earlier stage of the student.
        student_high: Feature map of a later stage.
        teacher_low: Feature map of the teacher at the first stage, with as many
            channels as the student's; its size may differ.
        teacher_high: Feature map of the teacher at the second stage.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If an array is not floating point.
        ValueError: If an array is not a batch of feature maps, or if numbers of
            examples, or of the two networks' channels at a stage, differ.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> low, high = jnp.ones((1, 4, 4, 2)), jnp.ones((1, 2, 2, 3))
        >>> print(losses.flow_of_solution(low, 2 * high, low, high))
        [1.]

    References:
        Yim et al., `A Gift from Knowledge Distillation: Fast Optimization, Network
        Minimization and Transfer Learning
        <https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html>`_,
        2017, Eq. 1 and 2.
    """
    x_s, y_s, x_t, y_t = stage_pairs(
        stop_teacher_gradient=stop_teacher_gradient,
        student_low=student_low,
        student_high=student_high,
        teacher_low=teacher_low,
        teacher_high=teacher_high,
    )
    gap = _gram(x_s, y_s) - _gram(x_t, y_t)
    return jnp.mean(gap * gap, axis=(-2, -1))


@declare(
    Arguments.FEATURE_MAP_PAIRS,
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
def singular_value(
    student_low: Float[ArrayLike, "batch h1 w1 c1"],
    student_high: Float[ArrayLike, "batch h2 w2 c2"],
    teacher_low: Float[ArrayLike, "batch h3 w3 c1"],
    teacher_high: Float[ArrayLike, "batch h4 w4 c2"],
    *,
    k: int = 1,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Compare the relations between the singular vectors of two stages.

    A feature map of an example is a matrix, positions times channels. Of the teacher's,
    :math:`v^t_1, \dots, v^t_k` are the right singular vectors of the largest singular
    values :math:`\sigma_1, \dots, \sigma_k`, scaled to
    :math:`\sum_m \sigma_m^2 = 1`. Each is matched with the one of the student's first
    :math:`k + 3` right singular vectors whose cosine with it is largest in size, times
    the cosine's sign: :math:`v^s_m`. With :math:`u` the vectors of the lower stage and
    :math:`v` of the higher, both networks' multiplied by the teacher's
    :math:`\sigma_m`,

    .. math::
        E_{ijm} = e^{-(\sigma_m v_{im} - \sigma'_m u_{jm})^2/8}, \qquad
        \ell = \sum_{ijm} (E^s_{ijm} - E^t_{ijm})^2.

    A singular vector is determined up to its sign, and the loss depends on the sign of
    a lower stage's vector relative to a higher stage's. Here the teacher's component of
    largest size is positive. A vector whose singular value is zero up to rounding
    counts as zero.

    **Gradient.** For :math:`M = A^\top A` with eigenvalues :math:`\sigma_i^2`,

    .. math::
        \mathrm{d} v_j = \sum_{i \ne j}
            \frac{v_i\, (v_i^\top \mathrm{d}M\, v_j)}{\sigma_j^2 - \sigma_i^2}.

    Where singular values coincide, the vectors are not differentiable. There
    :math:`1/x` becomes :math:`x^3/(x^4 + \varepsilon^4)`, with :math:`\varepsilon` the
    largest eigenvalue times the square root of the dtype's rounding unit: finite
    everywhere, zero for equal singular values. Which vectors are matched, and their
    signs, are constants.

    Args:
        student_low: Feature map of an earlier stage of the student.
        student_high: Feature map of a later stage.
        teacher_low: Feature map of the teacher at the first stage, with as many
            channels as the student's; its size may differ.
        teacher_high: Feature map of the teacher at the second stage.
        k: Number of the teacher's singular vectors that are compared. The student has
            :math:`k + 3` candidates, or as many as there are.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If an array is not floating point, or ``k`` is not an integer.
        ValueError: If an array is not a batch of feature maps, if numbers of examples,
            or of the two networks' channels at a stage, differ, or if ``k`` is not
            positive or exceeds a map's channels or positions.

    Example:
        >>> import jax
        >>> from jaxkd import losses
        >>> student, teacher = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
        >>> losses.singular_value(student, student, teacher, teacher).shape
        (1,)
        >>> print(losses.singular_value(student, student, student, student))
        [0.]

    References:
        Lee et al., `Self-supervised Knowledge Distillation Using Singular Value
        Decomposition <https://arxiv.org/abs/1807.06819>`_, 2018, Sec. 3.
    """
    maps = {
        "student_low": student_low,
        "student_high": student_high,
        "teacher_low": teacher_low,
        "teacher_high": teacher_high,
    }
    arrays = stage_pairs(stop_teacher_gradient=stop_teacher_gradient, **maps)
    _checks.check_at_least(1, k=k)
    for name, x in zip(maps, arrays, strict=True):
        _check_count(k, name, x)
    x_s, y_s, x_t, y_t = arrays
    low_s, low_t = _aligned(x_s, x_t, k)
    high_s, high_t = _aligned(y_s, y_t, k)
    gap = _relation(low_s, high_s) - _relation(low_t, high_t)
    return jnp.sum(gap * gap, axis=(-3, -2, -1))


def _gram(
    low: Float[Array, "batch h1 w1 c1"], high: Float[Array, "batch h2 w2 c2"]
) -> Float[Array, "batch c1 c2"]:
    """Average the products of both maps' channels over the positions."""
    low, high = pool_to_match(low, high)
    positions = low.shape[-3] * low.shape[-2]
    return jnp.einsum("bhwi,bhwj->bij", low, high) / positions


def _check_count(k: int, name: str, x: Array) -> None:
    _, height, width, channels = x.shape
    if k > min(height * width, channels):
        raise InvalidInputError(
            f"k is {k}, but {name} of shape {x.shape} has only "
            f"{min(height * width, channels)} singular vectors",
            argument="k",
        )


def _relation(
    low: Float[Array, "batch c1 k"], high: Float[Array, "batch c2 k"]
) -> Float[Array, "batch c2 c1 k"]:
    difference = high[:, :, None] - low[:, None]
    return jnp.exp(difference * difference / -8.0)


# Compiled as one program, because eagerly it is some hundred small operations.
@functools.partial(jax.jit, static_argnums=2)
def _aligned(
    student: Float[Array, "batch h1 w1 c"],
    teacher: Float[Array, "batch h2 w2 c"],
    k: int,
) -> tuple[Float[Array, "batch c k"], Float[Array, "batch c k"]]:
    """Return a stage's scaled vectors, the student's matched to the teacher's."""
    a, b = _matrices(student), _matrices(teacher)
    count = min(k + _SPARE_VECTORS, *a.shape[-2:])
    candidates, _ = jax.vmap(lambda m: singular_vectors(m, count))(a)
    v_t, squares = jax.vmap(lambda m: singular_vectors(m, k))(b)
    largest = jnp.argmax(jnp.abs(v_t), axis=-2, keepdims=True)
    v_t = v_t * _sign(jnp.take_along_axis(v_t, largest, axis=-2))

    cosine = jnp.einsum("bci,bcj->bij", candidates, v_t)
    match = jnp.argmax(jnp.abs(cosine), axis=-2, keepdims=True)
    v_s = jnp.take_along_axis(candidates, match, axis=-1)
    v_s = v_s * _sign(jnp.take_along_axis(cosine, match, axis=-2))

    # Guarded, because the square root has no derivative at zero.
    positive = squares > 0.0
    values = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
    scale = l2_normalize(values)[:, None, :]
    return v_s * scale, v_t * scale


def _matrices(
    x: Float[Array, "batch h w c"],
) -> Float[Array, "batch positions c"]:
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _sign(x: Array) -> Array:
    """Return the sign, +1 for zero, as a constant."""
    return jax.lax.stop_gradient(jnp.where(x < 0.0, -1.0, 1.0).astype(x.dtype))
