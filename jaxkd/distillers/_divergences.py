"""Methods that compare softened predictions by other divergences."""

from jaxtyping import ArrayLike, Real

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._logits import from_logits


def reverse_kl(
    *,
    temperature: Real[ArrayLike, ""] = 1.0,
) -> Distiller:
    """Divergence from the student's softened predictions to the teacher's.

    The student is drawn to one mode of the teacher rather than spread over all.
    The loss is :func:`jaxkd.losses.reverse_kl`.

    Args:
        temperature: Softening temperature; ``inf`` is allowed.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.reverse_kl()

    References:
        Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
        <https://arxiv.org/abs/2306.08543>`_, 2024, Sec. 2.1.
    """
    _checks.check_positive(temperature=temperature)
    return from_logits(
        "reverse_kl",
        lambda student, teacher, labels: losses.reverse_kl(
            student, teacher, temperature=temperature
        ),
    )


def jensen_shannon(
    *,
    mixture: float | int = 0.5,
    temperature: Real[ArrayLike, ""] = 1.0,
) -> Distiller:
    """Divergences of teacher and student to a mixture of both.

    Between distillation by soft targets and :func:`reverse_kl`, and bounded.
    The loss is :func:`jaxkd.losses.jensen_shannon`.

    Args:
        mixture: The teacher's share of the mixture, strictly between 0 and 1.
        temperature: Softening temperature; ``inf`` is allowed.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.jensen_shannon()

    References:
        Agarwal et al., `On-Policy Distillation of Language Models
        <https://arxiv.org/abs/2306.13649>`_, 2024, Sec. 2.
    """
    _checks.check_in_range(0.0, 1.0, mixture=mixture)
    if mixture in (0, 1):
        raise InvalidInputError(
            f"mixture must lie strictly between 0 and 1, got {mixture}"
        )
    _checks.check_positive(temperature=temperature)
    return from_logits(
        "jensen_shannon",
        lambda student, teacher, labels: losses.jensen_shannon(
            student, teacher, mixture=mixture, temperature=temperature
        ),
    )


def skewed_kl(
    *,
    skew: float | int = 0.1,
    temperature: Real[ArrayLike, ""] = 1.0,
) -> Distiller:
    """Divergence from the teacher to a mixture of both.

    A class that the student has missed does not take over the gradient.
    The loss is :func:`jaxkd.losses.skewed_kl`.

    Args:
        skew: The teacher's share of the mixture, in [0, 1].
        temperature: Softening temperature; ``inf`` is allowed.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.skewed_kl()

    References:
        Ko et al., `DistiLLM: Towards Streamlined Distillation for Large Language
        Models <https://arxiv.org/abs/2402.03898>`_, 2024, Sec. 3.1.
    """
    _checks.check_in_range(0.0, 1.0, skew=skew)
    _checks.check_positive(temperature=temperature)
    return from_logits(
        "skewed_kl",
        lambda student, teacher, labels: losses.skewed_kl(
            student, teacher, skew=skew, temperature=temperature
        ),
    )


def transformed_teacher_matching(
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
) -> Distiller:
    """The softened teacher matched by a student without temperature (TTM).

    The loss is :func:`jaxkd.losses.transformed_teacher_matching`.

    Args:
        temperature: The teacher's temperature, finite.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.transformed_teacher_matching()

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, Sec. 4.
    """
    _checks.check_finite_positive(temperature=temperature)
    return from_logits(
        "transformed_teacher_matching",
        lambda student, teacher, labels: losses.transformed_teacher_matching(
            student, teacher, temperature=temperature
        ),
    )


def weighted_transformed_teacher_matching(
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
) -> Distiller:
    """Transformed teacher matching, weighted by the teacher's power sum (WTTM).

    The loss is :func:`jaxkd.losses.weighted_transformed_teacher_matching`.

    Args:
        temperature: The teacher's temperature, finite.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.weighted_transformed_teacher_matching()

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, Sec. 5.
    """
    _checks.check_finite_positive(temperature=temperature)
    return from_logits(
        "weighted_transformed_teacher_matching",
        lambda student, teacher, labels: losses.weighted_transformed_teacher_matching(
            student, teacher, temperature=temperature
        ),
    )
