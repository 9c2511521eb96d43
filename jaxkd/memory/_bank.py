"""Memory bank with one embedding per training example and network."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Integer, PRNGKeyArray, Real

from jaxkd import _checks
from jaxkd._math import l2_normalize
from jaxkd.memory import _devices


class Bank(NamedTuple):
    """Embeddings of the whole training set, or of some of its rows.

    Attributes:
        student: Past outputs of the student's embedding head, one per row.
        teacher: Past outputs of the teacher's embedding head, one per row.
    """

    student: Float[Array, "rows dim"]
    teacher: Float[Array, "rows dim"]


def init_bank(
    key: PRNGKeyArray, rows: int, dim: int, *, dtype: DTypeLike = jnp.float32
) -> Bank:
    r"""Draw both banks from :math:`U(\pm 1/\sqrt{d/3})`; rows have length about one.

    Args:
        key: PRNG key.
        rows: Number of training examples.
        dim: Width :math:`d` of the embeddings.
        dtype: Storage dtype. ``bfloat16`` halves the memory; computations remain in
            float32.

    Returns:
        Two independent banks of shape ``[rows, dim]``. If a mesh with an axis ``data``
        is in use, rows of zeros are appended to get a multiple of the axis size. These
        rows are never used as negatives.

    Raises:
        TypeError: If ``rows`` or ``dim`` is not an integer.
        ValueError: If ``rows`` or ``dim`` is less than 1, or too large.

    Example:
        >>> import jax
        >>> from jaxkd import memory
        >>> memory.init_bank(jax.random.key(0), rows=10, dim=4).student.shape
        (10, 4)
    """
    _checks.check_at_least(1, rows=rows)
    _checks.check_width(dim=dim)
    limit = 1 / math.sqrt(dim / 3)
    fill = ((0, _devices.padded(rows) - rows), (0, 0))
    return Bank(
        *(
            jnp.pad(jax.random.uniform(k, (rows, dim), dtype, -limit, limit), fill)
            for k in jax.random.split(key)
        )
    )


def read(bank: Bank, rows: Integer[ArrayLike, " batch"]) -> Bank:
    """Read the embeddings of some examples, in at least float32.

    Args:
        bank: Embeddings of the whole training set.
        rows: Row numbers of the examples.

    Returns:
        A bank of ``len(rows)`` rows.

    Raises:
        TypeError: If the rows are not integers.
        ValueError: If a concrete row number is not one of the bank's.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> bank = memory.init_bank(jax.random.key(0), rows=10, dim=4)
        >>> memory.read(bank, jnp.array([3, 1])).teacher.shape
        (2, 4)
    """
    rows = _checks.as_row_numbers(rows)
    _checks.check_numbers_below(len(bank.student), "rows in the bank", rows=rows)
    return _read(bank, rows)


def _read(bank: Bank, rows: Array) -> Bank:
    return Bank(*(_checks.as_float_array(x[rows], "bank") for x in bank))


def update(
    bank: Bank,
    rows: Integer[ArrayLike, " batch"],
    student: Float[ArrayLike, "batch dim"],
    teacher: Float[ArrayLike, "batch dim"],
    *,
    momentum: Real[ArrayLike, ""] = 0.9,
) -> Bank:
    r"""Move rows toward new embeddings and scale them to unit length.

    .. math::
        M_i \leftarrow \frac{\mu M_i + (1 - \mu) h_i}
                            {\lVert \mu M_i + (1 - \mu) h_i \rVert}.

    No gradient flows through the new rows. Inside a compiled step that donates its
    state, the other rows are not copied.

    Args:
        bank: The bank to update.
        rows: Row numbers of the examples. If a row occurs twice, either of its values
            may be stored. Nothing is stored for a number beyond the last row.
        student: New embeddings of the student.
        teacher: New embeddings of the teacher.
        momentum: Share :math:`\mu` of the old row, in ``[0, 1]``.

    Returns:
        The updated bank, in the same dtype.

    Raises:
        TypeError: If the embeddings are not floating point, or the rows not integers.
        ValueError: If a concrete ``momentum`` is not in ``[0, 1]``, or a concrete row
            number is negative.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> bank = memory.init_bank(jax.random.key(0), rows=10, dim=4)
        >>> new = jnp.ones((1, 4))
        >>> bank = memory.update(bank, jnp.array([3]), new, new, momentum=0.0)
        >>> bank.student[3].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    _checks.check_in_range(0.0, 1.0, momentum=momentum)
    rows = _checks.as_row_numbers(rows)
    _checks.check_not_negative(rows=rows)

    def move(table, old, new, name):
        new = jax.lax.stop_gradient(_checks.as_float_array(new, name))
        mixed = momentum * old + (1 - momentum) * new.astype(old.dtype)
        return table.at[rows].set(l2_normalize(mixed).astype(table.dtype))

    old = _read(bank, rows)
    return Bank(
        student=move(bank.student, old.student, student, "student"),
        teacher=move(bank.teacher, old.teacher, teacher, "teacher"),
    )
