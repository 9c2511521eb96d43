"""Evaluate a loss of logits over a few rows at a time, to save memory."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.losses._arguments import prepare_mask


def in_chunks(
    loss: Callable[..., Float[Array, "..."]], chunk_size: int
) -> Callable[..., Float[Array, "..."]]:
    r"""Return the same loss, computed over a few rows at a time.

    The function flattens the leading axes and evaluates the loss on ``chunk_size`` rows
    at a time, in the forward pass and again in the backward pass. Only one chunk's
    intermediate results are in memory at a time. With a large vocabulary this matters:
    a divergence needs several float32 copies of all logits. Values and gradients are
    the same.

    Args:
        loss: A loss of logits with one value per row that depends only on this row,
            such as :func:`soft_target_kl` or :func:`decoupled_kl`, but not
            :func:`intra_class_relation` or :func:`multi_level`.
        chunk_size: Rows at a time. The last chunk may be smaller.

    Returns:
        ``(student_logits, teacher_logits, *others, where=None, **settings)``, where all
        arguments share the leading axes of ``student_logits`` and ``where`` broadcasts
        to it. Settings are passed on.

    Raises:
        TypeError: If ``chunk_size`` is not an integer.
        ValueError: If it is not positive, or, when called, if the arguments do not
            have the same leading axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> reverse_kl = losses.in_chunks(losses.reverse_kl, chunk_size=2)
        >>> student = jnp.zeros((1, 3, 2))
        >>> teacher = jnp.array([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]])
        >>> print(reverse_kl(student, teacher, temperature=1.0).round(1))
        [[0.  0.1 0.4]]
    """
    _checks.check_at_least(1, chunk_size=chunk_size)

    def chunked(
        student_logits: ArrayLike,
        teacher_logits: ArrayLike,
        *others: ArrayLike,
        where: ArrayLike | None = None,
        **settings: Any,
    ) -> Float[Array, "..."]:
        arrays = [jnp.asarray(x) for x in (student_logits, teacher_logits, *others)]
        shape = arrays[0].shape
        batch = shape[:-1]
        names = ["student_logits", "teacher_logits", *_numbered(len(others))]
        for name, x in zip(names, arrays, strict=True):
            if not shape or x.shape[: len(batch)] != batch:
                raise InvalidInputError(
                    f"student_logits and {name} must have the same leading axes, got "
                    f"shapes {shape} and {x.shape}",
                    argument=name,
                )
        if where is not None:
            arrays.append(_rows_of_mask(where, shape))

        def evaluate(chunk):
            if where is not None:
                *chunk, mask = chunk
                return loss(*chunk, where=mask, **settings)
            return loss(*chunk, **settings)

        rows = math.prod(batch)
        flat = [x.reshape(rows, *x.shape[len(batch) :]) for x in arrays]
        whole = rows - rows % chunk_size
        parts = []
        if whole:
            chunks = [x[:whole].reshape(-1, chunk_size, *x.shape[1:]) for x in flat]
            values = jax.lax.map(jax.checkpoint(evaluate), chunks)
            parts.append(values.reshape(whole))
        if whole < rows or not rows:
            parts.append(jax.checkpoint(evaluate)([x[whole:] for x in flat]))
        return jnp.concatenate(parts).reshape(batch)

    return chunked


def _numbered(count: int) -> list[str]:
    return [f"argument {i + 3}" for i in range(count)]


def _rows_of_mask(where: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Broadcast a mask to the leading axes of the logits; its last axis may stay 1."""
    mask = jnp.asarray(where)
    classes = mask.shape[-1] if mask.ndim else 1
    if classes == 1:
        shape = (*shape[:-1], 1)
    broadcast = prepare_mask(mask, shape)
    assert broadcast is not None
    return broadcast
