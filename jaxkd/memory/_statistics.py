"""Statistics that compare the bank with the current embeddings."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._math import l2_normalize
from jaxkd.memory._bank import Bank


def bank_statistics(
    remembered: Bank,
    student: Float[ArrayLike, "batch dim"],
    teacher: Float[ArrayLike, "batch dim"],
) -> dict[str, Float[Array, ""]]:
    """Compare the embeddings of a batch with those in the bank.

    Args:
        remembered: The batch's rows of the bank (:func:`read`), before the update.
        student: Embeddings of the student.
        teacher: Embeddings of the teacher.

    Returns:
        Means over the batch. ``bank_norm`` is the length of the rows of both banks (1,
        up to rounding, after a row has been updated). ``student_bank_cosine`` and
        ``teacher_bank_cosine`` are the cosines of an embedding and the same network's
        row; they decrease as embeddings drift. ``embedding_cosine`` is the cosine of
        the two networks' embeddings.

    Raises:
        TypeError: If the embeddings are not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import memory
        >>> rows = memory.Bank(jnp.array([[0.0, 1.0]]), jnp.array([[2.0, 0.0]]))
        >>> now = jnp.array([[0.0, 3.0]])
        >>> statistics = memory.bank_statistics(rows, now, now)
        >>> print({name: float(value) for name, value in statistics.items()})
        ... # doctest: +NORMALIZE_WHITESPACE
        {'bank_norm': 1.5, 'student_bank_cosine': 1.0, 'teacher_bank_cosine': 0.0,
         'embedding_cosine': 1.0}
    """
    student = _checks.as_float_array(student, "student")
    teacher = _checks.as_float_array(teacher, "teacher")
    remembered = Bank(*(x.astype(student.dtype) for x in remembered))
    lengths = [jnp.mean(jnp.linalg.norm(x, axis=-1)) for x in remembered]
    return {
        "bank_norm": (lengths[0] + lengths[1]) / 2,
        "student_bank_cosine": _mean_cosine(student, remembered.student),
        "teacher_bank_cosine": _mean_cosine(teacher, remembered.teacher),
        "embedding_cosine": _mean_cosine(student, teacher),
    }


def _mean_cosine(
    a: Float[Array, "batch dim"], b: Float[Array, "batch dim"]
) -> Float[Array, ""]:
    cosine = jnp.sum(l2_normalize(a) * l2_normalize(b).astype(a.dtype), axis=-1)
    return jnp.mean(cosine)
