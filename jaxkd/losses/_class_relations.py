"""Losses that compare predictions across the classes and across the batch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import _stable, soft_target_divergence
from jaxkd.losses._arguments import prepare_logits, prepare_mask
from jaxkd.losses._symmetries import SHIFT_INVARIANT, Arguments, Transformation, declare

# A column of predictions counts as constant within so many units in the last place.
_ROUNDING = 16


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT)
def inter_class_relation(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute one minus the correlation of softened predictions over the classes.

    With :math:`p = \mathrm{softmax}(z^t/T)`, :math:`q = \mathrm{softmax}(z^s/T)` and
    :math:`\hat x` for :math:`x` minus its mean, at unit length,

    .. math::
        \ell = 1 - \rho(q, p) = \tfrac12 \lVert \hat q - \hat p \rVert_2^2.

    The function computes the second form, from a multiple of the predictions that is
    accurate at every temperature. A row of equal logits has no direction,
    :math:`\hat x = 0`, and no gradient: the loss is 1/2 where one network has such a
    row and 0 where both have.

    There is no factor :math:`T^2`; ``distillers.class_relation`` multiplies by it, as
    published.

    Args:
        student_logits: Logits :math:`z^s`.
        teacher_logits: Logits :math:`z^t`.
        temperature: Softening temperature :math:`T > 0`, finite.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in [0, 2], at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[3.0, 0.0]])
        >>> print(losses.inter_class_relation(student, teacher).round(4))
        [2.]

    References:
        Huang et al., `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022, Eq. 8.
    """
    logits = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    )
    _checks.check_finite_temperature(temperature=temperature)
    t = jnp.asarray(temperature, logits.student.dtype)

    def direction(x):
        # A correlation is invariant to the factor and the constant between this and the
        # softmax, of which only the last digits would remain at high temperatures.
        top = jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))
        return _standardize(jnp.expm1((x - top) / t), logits.where, -1)

    return _half_squared_distance(*map(direction, logits.masked()), axis=-1)


@declare(
    Arguments.LOGITS,
    invariant=frozenset(
        {
            Transformation.STUDENT_SHIFT,
            Transformation.COMMON_SHIFT,
            Transformation.BATCH_PERMUTATION,
        }
    ),
    equivariant=frozenset({Transformation.CLASS_PERMUTATION}),
)
def intra_class_relation(
    student_logits: Float[ArrayLike, "batch classes"],
    teacher_logits: Float[ArrayLike, "batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " classes"]:
    r"""Compute one minus the correlation of each class's predictions over the batch.

    With the columns :math:`p_c, q_c` of the softened predictions and :math:`\hat x` for
    :math:`x` minus its mean, at unit length,

    .. math::
        \ell_c = 1 - \rho(q_c, p_c) = \tfrac12 \lVert \hat q_c - \hat p_c \rVert_2^2.

    A column that is constant to 16 units in the last place, as of a single example, has
    no direction, :math:`\hat x = 0`, and no gradient: the loss is 1/2 where one network
    has such a column and 0 where both have. There is no factor :math:`T^2`;
    ``distillers.class_relation`` multiplies by it, as published.

    Args:
        student_logits: Logits :math:`z^s`.
        teacher_logits: Logits :math:`z^t`.
        temperature: Softening temperature :math:`T > 0`, finite.
        where: Mask of participating entries, of a shape that broadcasts to that of the
            logits: a class in the predictions of an example, an example in the columns
            of its classes. A column without any entry has loss zero, and a row without
            any entry has no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each class (not example), in [0, 2], at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together, are not ``[batch, classes]`` or
            have no classes, or if a concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> print(losses.intra_class_relation(student, -student).round(4))
        [2. 2.]

    References:
        Huang et al., `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022, Eq. 9.
    """
    logits = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient, rank=2
    )
    _checks.check_finite_temperature(temperature=temperature)
    t = jnp.asarray(temperature, logits.student.dtype)

    def direction(x):
        q = jax.nn.softmax(x / t)
        keep = True if logits.where is None else logits.where
        top = jnp.max(q, axis=0, keepdims=True, where=keep, initial=0.0)
        low = jnp.min(q, axis=0, keepdims=True, where=keep, initial=1.0)
        # In compiled code equal rows may differ in their last digit: no direction
        # either.
        constant = top - low <= _ROUNDING * float(jnp.finfo(q.dtype).eps) * top
        q = jnp.where(constant, 0.0, q)
        return _standardize(q, logits.where, 0)

    columns = map(direction, logits.masked())
    return _half_squared_distance(*columns, axis=0)


def standardize_logits(
    logits: Float[ArrayLike, "*batch classes"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch classes"]:
    r"""Standardize logits to mean zero and standard deviation one over the classes.

    .. math::
        x_c = \frac{z_c - \bar z}{\sigma(z)}, \qquad
        \sigma(z)^2 = \frac{1}{C} \sum_c (z_c - \bar z)^2.

    Apply this to the logits of any loss: the student then matches the relations of the
    teacher's logits, not their size. No epsilon is added to :math:`\sigma`; a row of
    equal logits becomes zero, and its gradient is zero.

    Args:
        logits: Finite logits :math:`z`.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. Other logits become zero: pass the same ``where`` to the loss.

    Returns:
        The standardized logits, at least float32.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If ``where`` does not broadcast, or if there are no classes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> logits = jnp.array([[1.0, 3.0], [2.0, 2.0]])
        >>> print(losses.standardize_logits(logits).round(4))
        [[-1.  1.]
         [ 0.  0.]]

    References:
        Sun et al., `Logit Standardization in Knowledge Distillation
        <https://arxiv.org/abs/2403.01427>`_, 2024, Alg. 1.
    """
    x = _checks.as_float_array(logits, "logits")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InvalidInputError(
            f"logits must have at least one class on the last axis, got {x.shape}",
            argument="logits",
        )
    keep = prepare_mask(where, x.shape)
    return _standardize(x, keep, -1) * jnp.sqrt(_count(x, keep, -1))


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT)
def multi_level(
    student_logits: Float[ArrayLike, "batch classes"],
    teacher_logits: Float[ArrayLike, "batch classes"],
    *,
    temperatures: Sequence[float | int] = (2.0, 3.0, 4.0, 5.0, 6.0),
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, " batch"]:
    r"""Align predictions and their Gram matrices over the batch and over the classes.

    With the matrices :math:`P, Q` (a row for each of :math:`b` examples, a column for
    each of :math:`C` classes) of the teacher's and student's predictions softened at
    :math:`T`, and the mean over the given temperatures,

    .. math::
        \ell_i = \mathop{\mathrm{mean}}_T \left[
            T^2\, \mathrm{KL}(P_i \| Q_i)
            + \sum_j (P P^\top - Q Q^\top)_{ij}^2
            + \frac{1}{C} \lVert P^\top P - Q^\top Q \rVert_F^2 \right].

    The mean over the examples is the sum of the divergence,
    :math:`\lVert P P^\top - Q Q^\top \rVert_F^2 / b` and
    :math:`\lVert P^\top P - Q^\top Q \rVert_F^2 / C`. No matrix of size
    :math:`C \times C` is formed. The temperatures are evaluated one after another, and
    again for the gradient.

    Args:
        student_logits: Logits :math:`z^s`.
        teacher_logits: Logits :math:`z^t`.
        temperatures: At least one positive, finite temperature.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient, and does not
            affect the losses of other rows; :math:`C` counts the classes that
            participate in any row.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together, are not ``[batch, classes]`` or
            have no classes, or if there are no temperatures or one is not positive
            and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
        >>> print(losses.multi_level(student, teacher, temperatures=(1.0,)).round(4))
        [0.6757]

    References:
        Jin et al., `Multi-Level Logit Distillation
        <https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html>`_,
        2023, Eq. 4 to 10.
    """
    logits = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient, rank=2
    )
    _checks.check_temperatures(temperatures)
    student, teacher = logits.masked()
    classes = float(student.shape[1])
    rows = None
    if logits.where is not None:
        rows = jnp.any(logits.where, axis=1, keepdims=True)
        used = jnp.sum(jnp.any(logits.where, axis=0), dtype=student.dtype)
        classes = jnp.maximum(used, 1.0)

    @jax.checkpoint
    def level(t):
        p, q = jax.nn.softmax(teacher / t), jax.nn.softmax(student / t)
        if rows is not None:
            p, q = jnp.where(rows, p, 0.0), jnp.where(rows, q, 0.0)
        # P P' - Q Q' = (D S' + S D') / 2 with D = P - Q, S = P + Q, and so for the
        # classes; |D' S + S' D|^2 follows from products of the same batch matrices.
        d, s = p - q, p + q
        mixed = _product(d, s)
        batch = jnp.sum(jnp.square(0.5 * (mixed + mixed.T)), axis=1)
        between = jnp.sum(_product(d, d) * _product(s, s) + mixed * mixed.T)
        return soft_target_divergence(student, teacher, t) + (
            batch + 0.5 * between / classes
        )

    values = jax.lax.map(level, jnp.asarray(list(temperatures), student.dtype))
    return logits.of_rows(jnp.mean(values, axis=0))


def _product(x: Float[Array, "a n"], y: Float[Array, "b n"]) -> Float[Array, "a b"]:
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _count(
    x: Float[Array, "..."], keep: Bool[Array, "..."] | None, axis: int
) -> Float[Array, "..."]:
    if keep is None:
        return jnp.asarray(x.shape[axis], x.dtype)
    return jnp.sum(keep, axis=axis, keepdims=True, dtype=x.dtype)


def _standardize(
    x: Float[Array, "..."], keep: Bool[Array, "..."] | None, axis: int
) -> Float[Array, "..."]:
    """Center vectors and scale them to unit length; equal numbers become zero."""
    # Subtract one of the numbers first, so that equal numbers leave no rounding error,
    # whose direction would otherwise count.
    if keep is None:
        x = x - jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
        return _stable.l2_normalize(
            x - jnp.mean(x, axis=axis, keepdims=True), axis=axis
        )
    top = jnp.max(jnp.where(keep, x, -jnp.inf), axis=axis, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isneginf(top), 0.0, top))
    x = jnp.where(keep, jnp.where(keep, x, 0.0) - top, 0.0)
    count = jnp.maximum(_count(x, keep, axis), 1.0)
    mean = jnp.sum(x, axis=axis, keepdims=True) / count
    return _stable.l2_normalize(jnp.where(keep, x - mean, 0.0), axis=axis)


def _half_squared_distance(
    x: Float[Array, "..."], y: Float[Array, "..."], *, axis: int
) -> Float[Array, "..."]:
    return 0.5 * jnp.sum(jnp.square(x - y), axis=axis)
