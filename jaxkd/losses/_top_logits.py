"""Soft targets of which only the largest logits are known."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import (
    REMAINDER_TEMPERATURES,
    TopLogits,
    power_mean,
    soft_target_divergence,
)


def sparse_soft_target_kl(
    student_logits: Float[ArrayLike, "*batch classes"],
    top_values: Float[ArrayLike, "*batch k"],
    top_indices: Integer[ArrayLike, "*batch k"],
    *,
    remainder: Float[ArrayLike, "*batch"],
    temperature: Real[ArrayLike, ""] = 4.0,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the soft-target loss from the teacher's largest logits.

    All classes outside the teacher's top :math:`k` count as one, whose probability is
    the sum of theirs: :math:`m` for the teacher, :math:`s` for the student. With
    :math:`p = \mathrm{softmax}(z^t/T)` and :math:`q = \mathrm{softmax}(z^s/T)`,

    .. math::
        \ell = T^2 \left[\sum_{c \in K} p_c \log \frac{p_c}{q_c}
            + m \log \frac{m}{s}\right], \qquad
        \frac{\partial \ell}{\partial z^s_c} = \begin{cases}
            T (q_c - p_c) & c \in K \\ T (q_c - m q_c / s) & \text{otherwise.}
        \end{cases}

    So mass that the student moves to other classes costs as much as in the full loss.
    What is left out is how the teacher ranks them. Theorem T15 bounds it: the full loss
    :func:`soft_target_kl` is larger by at most :math:`m \min(T\,w, w^2/8)`, where
    :math:`w` is the range of :math:`z^s - z^t` over the other classes. Its gradient is
    the same in the top :math:`k` classes, and differs by at most :math:`2 T m` in all
    others together.

    The loss is accurate at every temperature, as :func:`soft_target_kl`, up to the
    rounding of the remainder and of its counterpart for the student.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s` of all classes.
        top_values: Some of the teacher's logits, usually the largest.
        top_indices: Their classes, different in each row; fewer than there are classes.
        remainder: The logit that each of the other :math:`n` classes would have if they
            shared their mass equally: :math:`T \log \frac1n \sum_c e^{z^t_c/T}`, which
            depends on the temperature. :func:`remainder_logit` computes it. With
            ``-inf`` the other classes have no mass.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it. In traced code, a class that is out of range or occurs twice makes
        the loss NaN.

    Raises:
        TypeError: If logits are not floating point, or indices not integers.
        ValueError: If the shapes do not fit together, if concrete indices are out of
            range or occur twice in a row, or if a concrete temperature is not positive
            or too small.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student = jnp.array([[0.0, 1.0, 2.0, 0.5]])
        >>> teacher = jnp.array([[4.0, 1.0, 0.0, 0.0]])
        >>> top = losses.top_logits(teacher, 2)
        >>> remainder = losses.remainder_logit(teacher, top.indices, temperature=4.0)
        >>> print(losses.sparse_soft_target_kl(
        ...     student, top.values, top.indices, remainder=remainder, temperature=4.0
        ... ).round(2))
        [2.77]
        >>> print(losses.soft_target_kl(student, teacher).round(2))
        [2.87]

    References:
        The loss is Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, Sec. 2, on merged classes; the bound
        is ours (T15).
    """
    student, values, rest = _checks.common_float_arrays(
        student_logits=student_logits, top_values=top_values, remainder=remainder
    )
    indices = _checks.as_class_numbers(top_indices, "top_indices")
    _check_indices(student, indices, top_indices, "student_logits")
    _checks.check_same_shape(top_values=values, top_indices=indices)
    if rest.shape != student.shape[:-1]:
        raise InvalidInputError(
            f"remainder must have the shape {student.shape[:-1]}, one number for each "
            f"row, got {rest.shape}",
            argument="remainder",
        )
    _checks.check_temperature(temperature=temperature)
    if stop_teacher_gradient:
        values, rest = jax.lax.stop_gradient((values, rest))
    t = jnp.asarray(temperature, student.dtype)
    others = _others(indices, student.shape)
    count = student.shape[-1] - indices.shape[-1]
    top = jnp.take_along_axis(student, indices, axis=-1)
    top = jnp.where(_are_classes(indices, student.shape[-1]), top, jnp.nan)
    merged = power_mean(student, others, count, t)
    return soft_target_divergence(
        jnp.concatenate([top, merged[..., None]], axis=-1),
        jnp.concatenate([values, rest[..., None]], axis=-1),
        t,
        last_count=count,
    )


def top_logits(logits: Float[ArrayLike, "*batch classes"], k: int) -> TopLogits:
    """Return the largest logits of each row, and the mass of the others.

    This is all that must be stored of a teacher to distill it at any temperature from 1
    on. Where all its logits are at hand, :func:`remainder_logit` is exact at every one.

    Args:
        logits: Unnormalized log-probabilities.
        k: Number of logits to keep, fewer than there are classes.

    Returns:
        The arguments of :func:`sparse_soft_target_kl`: ``values``, ``indices`` and, for
        a temperature, ``remainder(temperature)``. The remainder is exact at the
        temperatures 1, 2, 4, 8 and infinity, and interpolated between them.

    Raises:
        TypeError: If the logits are not floating point, or ``k`` is not an integer.
        ValueError: If ``k`` is not between 1 and the number of classes minus one.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> top = losses.top_logits(jnp.array([[4.0, 1.0, 0.0, 0.0]]), 2)
        >>> print(top.values, top.indices, top.remainder(4.0))
        [[4. 1.]] [[0 1]] [0.]
    """
    array = _checks.as_float_array(logits, "logits")
    _checks.check_at_least(1, k=k)
    if array.ndim == 0 or k >= array.shape[-1]:
        raise InvalidInputError(
            f"k must be smaller than the number of classes, got {k} for logits of "
            f"shape {array.shape}; with all logits, use soft_target_kl",
            argument="k",
        )
    values, indices = jax.lax.top_k(array, k)
    others, count = _others(indices, array.shape), array.shape[-1] - k
    remainders = [
        power_mean(array, others, count, jnp.asarray(t, array.dtype))
        for t in REMAINDER_TEMPERATURES
    ]
    return TopLogits(values, indices, jnp.stack(remainders, axis=-1))


def remainder_logit(
    logits: Float[ArrayLike, "*batch classes"],
    top_indices: Integer[ArrayLike, "*batch k"],
    *,
    temperature: Real[ArrayLike, ""],
) -> Float[Array, "*batch"]:
    r"""Compute the logit that the other classes share, exactly at any temperature.

    .. math::
        r = T \log \frac{1}{n} \sum_{c \notin K} e^{z_c / T}

    over the :math:`n` classes that are not listed. At :math:`T = \infty` it is the mean
    of their logits.

    Args:
        logits: Unnormalized log-probabilities of all classes.
        top_indices: The listed classes, different in each row.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed.

    Returns:
        The argument ``remainder`` of :func:`sparse_soft_target_kl`, in the unit of the
        logits, at least float32.

    Raises:
        TypeError: If the logits are not floating point, or the indices not integers.
        ValueError: If the shapes do not fit together, if concrete indices are out of
            range or occur twice in a row, or if a concrete temperature is not positive
            or too small.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> teacher = jnp.array([[4.0, 1.0, 3.0, 1.0]])
        >>> print(losses.remainder_logit(teacher, jnp.array([[0, 2]]), temperature=3.0))
        [1.]
    """
    array = _checks.as_float_array(logits, "logits")
    indices = _checks.as_class_numbers(top_indices, "top_indices")
    _check_indices(array, indices, top_indices, "logits")
    _checks.check_temperature(temperature=temperature)
    t = jnp.asarray(temperature, array.dtype)
    others = _others(indices, array.shape)
    return power_mean(array, others, array.shape[-1] - indices.shape[-1], t)


def _others(
    indices: Integer[Array, "*batch k"], shape: tuple[int, ...]
) -> Bool[Array, "*batch classes"]:
    """Return the mask of the classes that are not listed."""
    everything = jnp.ones(shape, jnp.bool_)
    return jnp.put_along_axis(everything, indices, False, axis=-1, inplace=False)


def _are_classes(
    indices: Integer[Array, "*batch k"], classes: int
) -> Bool[Array, "*batch 1"]:
    """Return whether the indices of a row are different classes."""
    ordered = jnp.sort(indices, axis=-1)
    distinct = jnp.all(ordered[..., 1:] != ordered[..., :-1], axis=-1, keepdims=True)
    return distinct & (ordered[..., :1] >= 0) & (ordered[..., -1:] < classes)


def _check_indices(logits: Array, indices: Array, given: ArrayLike, name: str) -> None:
    """Check that the shapes fit together, and concrete indices."""
    if logits.ndim == 0 or indices.shape[:-1] != logits.shape[:-1]:
        raise InvalidInputError(
            f"{name} and top_indices must be [*batch, classes] and [*batch, k], got "
            f"shapes {logits.shape} and {indices.shape}",
            argument="top_indices",
        )
    k, classes = indices.shape[-1] if indices.ndim else 0, logits.shape[-1]
    if not 1 <= k < classes:
        raise InvalidInputError(
            f"top_indices must list 1 to {classes - 1} of {classes} classes, got {k}; "
            "with all logits, use soft_target_kl",
            argument="top_indices",
        )
    if isinstance(given, Tracer) or indices.size == 0:
        return
    concrete = np.sort(np.asarray(given), axis=-1)
    _checks.check_numbers_below(classes, "classes", top_indices=concrete)
    repeated = concrete[..., 1:][concrete[..., 1:] == concrete[..., :-1]]
    if repeated.size:
        raise InvalidInputError(
            f"top_indices has the class {repeated[0]} twice in a row; the classes of a "
            "row must differ",
            argument="top_indices",
        )
