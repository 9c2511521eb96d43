"""The average relative improvement, with which published tables compare methods."""

from collections.abc import Sequence

from jaxkd._errors import InvalidInputError


def average_relative_improvement(
    ours: Sequence[float], method: Sequence[float], student: Sequence[float]
) -> float:
    r"""Compute the average relative improvement (ARI) of one method over another.

    For pairs of networks :math:`i = 1, \dots, n`, let :math:`a` be the accuracies of
    the method in question, :math:`b` those of the other method and :math:`s` those of
    the student alone. Then

    .. math::
        \mathrm{ARI} = \frac{1}{n} \sum_i \frac{a_i - b_i}{b_i - s_i}.

    An ARI of 1 means that the gain over the student alone is doubled. By this
    definition, a pair counts with the wrong sign if the other method is below the
    student alone, and one such pair can dominate the mean.

    Args:
        ours: Accuracies of the method in question, one for each pair.
        method: Accuracies of the method it is compared with.
        student: Accuracies of the students trained alone.

    Returns:
        The improvement as a fraction; published tables show it in percent.

    Raises:
        ValueError: If the numbers of pairs differ or are zero, or if the other method
            equals the student alone in some pair.

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
            f"{len(ours)}, {len(method)} and {len(student)} accuracies",
            argument="ours",
        )
    gains = [b - s for b, s in zip(method, student, strict=True)]
    if 0.0 in gains:
        raise InvalidInputError(
            f"method equals the student alone in pair {gains.index(0.0)}: the "
            "improvement relative to a gain of zero is not defined. Leave this pair "
            "out.",
            argument="method",
        )
    differences = [a - b for a, b in zip(ours, method, strict=True)]
    ratios = [d / g for d, g in zip(differences, gains, strict=True)]
    return sum(ratios) / len(ratios)
