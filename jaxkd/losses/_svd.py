"""Feature maps compressed to their leading singular vectors."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._numerics import l2_normalize
from jaxkd.losses._flow import stage_pairs
from jaxkd.losses._invariance import (
    Arguments,
    Declaration,
    Transformation,
)

# How many more vectors of the student's than of the teacher's are candidates.
_SPARE_VECTORS = 3


def singular_value(
    student_low: Float[ArrayLike, "batch h1 w1 c1"],
    student_high: Float[ArrayLike, "batch h2 w2 c2"],
    teacher_low: Float[ArrayLike, "batch h3 w3 c1"],
    teacher_high: Float[ArrayLike, "batch h4 w4 c2"],
    *,
    k: int = 1,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Squared difference of the relations between two stages' singular vectors.

    A feature map of an example is a matrix, positions times channels. Of the teacher's,
    :math:`v^t_1, \dots, v^t_k` are the right singular vectors of the largest singular
    values :math:`\sigma_1, \dots, \sigma_k`, scaled to
    :math:`\sum_m \sigma_m^2 = 1`. Each takes that of the student's first :math:`k + 3`
    right singular vectors whose cosine with it is largest in size, times the cosine's
    sign: :math:`v^s_m`. With :math:`u` the vectors of the lower stage and :math:`v` of
    the higher, both networks' multiplied by the teacher's :math:`\sigma_m`,

    .. math::
        E_{ijm} = e^{-(\sigma_m v_{im} - \sigma'_m u_{jm})^2/8}, \qquad
        \ell = \sum_{ijm} (E^s_{ijm} - E^t_{ijm})^2.

    A singular vector is determined up to its sign, and the loss depends on that of a
    lower stage's vector relative to a higher's. Here the teacher's component of largest
    size is positive. A vector whose singular value is zero up to rounding counts as
    zero.

    **Gradient.** For :math:`M = A^\top A` with eigenvalues :math:`\sigma_i^2`,

    .. math::
        \mathrm{d} v_j = \sum_{i \ne j}
            \frac{v_i\, (v_i^\top \mathrm{d}M\, v_j)}{\sigma_j^2 - \sigma_i^2}.

    Where singular values coincide, the vectors are not differentiable. There
    :math:`1/x` becomes :math:`x/(x^2 + \varepsilon^2)`, :math:`\varepsilon` the largest
    eigenvalue times the square root of the dtype's rounding unit: finite everywhere,
    zero for equal singular values. Which vectors are matched, and their signs, are
    constants.

    Args:
        student_low: Feature map of an earlier stage of the student.
        student_high: Feature map of a later stage.
        teacher_low: The teacher's at the first stage, with as many channels as the
            student's; its size may differ.
        teacher_high: The teacher's at the second.
        k: How many of the teacher's singular vectors are kept. The student has
            :math:`k + 3` to choose from, or as many as there are.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If an array is not floating point, or ``k`` is no integer.
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


SINGULAR_VALUE = Declaration(
    singular_value,
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


def _check_count(k: int, name: str, x: Array) -> None:
    _, height, width, channels = x.shape
    if k > min(height * width, channels):
        raise InvalidInputError(
            f"k is {k}, but {name} of shape {x.shape} has only "
            f"{min(height * width, channels)} singular vectors"
        )


def _relation(
    low: Float[Array, "batch c1 k"], high: Float[Array, "batch c2 k"]
) -> Float[Array, "batch c2 c1 k"]:
    difference = high[:, :, None] - low[:, None]
    return jnp.exp(difference * difference / -8.0)


# Compiled as one, because called eagerly it is some hundred small operations.
@functools.partial(jax.jit, static_argnums=2)
def _aligned(
    student: Float[Array, "batch h1 w1 c"],
    teacher: Float[Array, "batch h2 w2 c"],
    k: int,
) -> tuple[Float[Array, "batch c k"], Float[Array, "batch c k"]]:
    """The scaled vectors of a stage, the student's matched with the teacher's."""
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
    """The sign, +1 of zero: a constant."""
    return jax.lax.stop_gradient(jnp.where(x < 0.0, -1.0, 1.0).astype(x.dtype))


def singular_vectors(
    x: Float[Array, "n c"], count: int
) -> tuple[Float[Array, "c {count}"], Float[Array, " {count}"]]:
    r"""Leading right singular vectors and squares of singular values.

    Differentiable where singular values coincide or vanish; see :func:`singular_value`.

    Args:
        x: A matrix.
        count: How many, at most :math:`\min(n, c)`.

    Returns:
        Vectors as columns, up to sign, zero where the singular value is; and the
        squared singular values, divided by the square of the matrix's largest entry.
    """
    # Vectors do not depend on the scale: with it left out, nothing overflows.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    tiny = jnp.finfo(x.dtype).tiny
    nonzero = ~(largest < tiny)  # NaN is let through: it must not pass for zero
    x = jnp.where(nonzero, x / jnp.clip(largest, tiny, 1.0 / tiny), 0.0)
    return _leading(x, count)


@jax.custom_batching.custom_vmap
def _eigh(matrix):
    return tuple(jnp.linalg.eigh(matrix))


@_eigh.def_vmap
def _eigh_of_batch(_, is_batched, matrices):
    """On CPU one after the other.

    A batch is divided among XLA's threads by a thread of theirs that then waits. As
    many batches side by side as there are threads wait for ever, and a step has several
    (jaxlib 0.10).
    """
    decompose = jax.lax.platform_dependent(
        matrices,
        cpu=lambda m: jax.lax.map(_eigh, m),
        default=lambda m: tuple(jnp.linalg.eigh(m)),
    )
    return decompose, (True, True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _leading(x, count):
    """Eigenvectors and eigenvalues of ``x.T @ x``, by the smaller Gram matrix."""
    wide = x.shape[0] < x.shape[1]
    gram = x @ x.T if wide else x.T @ x
    squares, vectors = _eigh(gram)  # ascending
    squares, vectors = squares[::-1][:count], vectors[:, ::-1][:, :count]
    rounding = max(x.shape) * jnp.finfo(x.dtype).eps
    exists = squares > rounding * squares[0]
    if wide:
        vectors = l2_normalize(x.T @ vectors, axis=0)
    vectors = jnp.where(exists[None, :] | jnp.isnan(squares[0]), vectors, 0.0)
    return vectors, jnp.where(exists | jnp.isnan(squares), squares, 0.0)


@_leading.defjvp
def _leading_jvp(count, primals, tangents):
    (x,), (dx,) = primals, tangents
    vectors, squares = _leading(x, min(x.shape))
    top, top_squares = vectors[:, :count], squares[:count]
    # dM v for the wanted vectors, M = x^T x; then its parts along the other vectors and
    # along the null space, where the eigenvalue is zero.
    image = x @ top
    null_part = dx.T @ image
    change = null_part + x.T @ (dx @ top)
    guard = jnp.sqrt(jnp.finfo(x.dtype).eps) * jnp.where(
        squares[0] > 0.0, squares[0], 1.0
    )
    along = vectors.T @ change
    # The diagonal is left out before the division: in second derivatives it would be a
    # difference of two equal numbers of the size 1/guard^2.
    itself = jnp.eye(len(squares), count, dtype=bool)
    difference = jnp.where(itself, 1.0, top_squares[None, :] - squares[:, None])
    weights = jnp.where(itself, 0.0, _reciprocal(difference, guard))
    null_part = null_part - vectors @ (vectors.T @ null_part)
    dvectors = vectors @ (weights * along)
    dvectors = dvectors + null_part * _reciprocal(top_squares, guard)[None, :]
    dsquares = jnp.sum(top * change, axis=0)
    return (top, top_squares), (dvectors, dsquares)


def _reciprocal(x: Array, guard: Array) -> Array:
    """1/x far from zero, zero at zero."""
    return x / (x * x + guard * guard)
