"""What losses that compare two networks' embeddings of a batch do first."""

from jaxtyping import Array, ArrayLike

from jaxkd.losses._inputs import check_rank, check_same_batch, common_arrays


def embedding_pair(
    student_embeddings: ArrayLike,
    teacher_embeddings: ArrayLike,
    stop_teacher_gradient: bool,
) -> list[Array]:
    """Converts both and raises unless they are matrices of equally many rows."""
    student, teacher = common_arrays(
        student_embeddings=student_embeddings,
        teacher_embeddings=teacher_embeddings,
        stop_teacher_gradient=stop_teacher_gradient,
    )
    named = {"student_embeddings": student, "teacher_embeddings": teacher}
    check_rank(2, "[batch, features]", **named)
    check_same_batch(**named)
    return [student, teacher]
