"""How the published tables compare methods."""

from collections.abc import Sequence

from jaxkd._errors import InvalidInputError


def average_relative_improvement(
    ours: Sequence[float], method: Sequence[float], student: Sequence[float]
) -> float:
    r"""How much further one method takes students than another does, on average.

    Over pairs of networks :math:`i = 1, \dots, n`, with accuracies :math:`a` of one
    method, :math:`b` of the other and :math:`s` of the student alone,

    .. math::
        \mathrm{ARI} = \frac{1}{n} \sum_i \frac{a_i - b_i}{b_i - s_i}.

    One says that the gain over the student alone is doubled. Where the other method is
    below the student alone, its pair counts with the wrong sign: that is in the
    definition, and one such pair spoils the mean.

    Args:
        ours: Accuracies of the method in question, one for each pair.
        method: Those of the method that it is compared with.
        student: Those of the students alone.

    Returns:
        The improvement as a fraction; published tables show percent.

    Raises:
        ValueError: If the numbers of pairs differ or are zero, or the other method is
            where the student is in some pair.

    Example:
        >>> from jaxkd import reports
        >>> reports.average_relative_improvement([76.0], [74.0], [73.0])
        2.0

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020.
    """
    if not len(ours) == len(method) == len(student) > 0:
        raise InvalidInputError(
            "ours, method and student must have one accuracy for each pair, got "
            f"{len(ours)}, {len(method)} and {len(student)}"
        )
    gains = [b - s for b, s in zip(method, student, strict=True)]
    if 0.0 in gains:
        raise InvalidInputError(
            f"method equals the student alone in pair {gains.index(0.0)}: an "
            "improvement relative to no gain is not defined"
        )
    differences = [a - b for a, b in zip(ours, method, strict=True)]
    ratios = [d / g for d, g in zip(differences, gains, strict=True)]
    return sum(ratios) / len(ratios)
