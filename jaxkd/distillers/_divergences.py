"""Methods that compare softened predictions by other divergences."""

from jaxtyping import ArrayLike, Real

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._from_loss import from_loss
from jaxkd.distillers._metadata import method
from jaxkd.distillers._schedules import Schedule, check_beginning


@method(
    "rkl",
    weights={"ce": 0.1, "rkl": 0.9},
    compares="predictions, with the roles exchanged",
    losses=(losses.reverse_kl,),
)
def reverse_kl(
    *,
    temperature: Real[ArrayLike, ""] | Schedule = 1.0,
) -> Distiller:
    """Match predictions by the KL divergence from the student to the teacher.

    The student concentrates on one mode of the teacher instead of covering all modes.
    The loss is :func:`jaxkd.losses.reverse_kl`.

    Args:
        temperature: Softening temperature; ``inf`` is allowed. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

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
    check_beginning(_checks.check_temperature, temperature=temperature)
    return from_loss(losses.reverse_kl, reads="logits", temperature=temperature)


@method(
    "js",
    weights={"ce": 0.1, "js": 0.9},
    compares="predictions and their mixture",
    losses=(losses.jensen_shannon,),
)
def jensen_shannon(
    *,
    mixture: float | int = 0.5,
    temperature: Real[ArrayLike, ""] | Schedule = 1.0,
) -> Distiller:
    """Match predictions by the Jensen-Shannon divergence to a mixture of both.

    The loss lies between those of :func:`soft_targets` and :func:`reverse_kl`, and is
    bounded.
    The loss is :func:`jaxkd.losses.jensen_shannon`.

    Args:
        mixture: The teacher's share of the mixture, strictly between 0 and 1.
        temperature: Softening temperature; ``inf`` is allowed. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

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
            f"mixture must lie strictly between 0 and 1, got {mixture}; use "
            "soft_targets or reverse_kl for the limits",
            argument="mixture",
        )
    _checks.check_positive(mixture=mixture)
    check_beginning(_checks.check_temperature, temperature=temperature)
    return from_loss(
        losses.jensen_shannon, reads="logits", mixture=mixture, temperature=temperature
    )


@method(
    "skl",
    weights={"ce": 0.1, "skl": 0.9},
    compares="the teacher and a mixture of both",
    losses=(losses.skewed_kl,),
)
def skewed_kl(
    *,
    skew: float | int = 0.1,
    temperature: Real[ArrayLike, ""] | Schedule = 1.0,
) -> Distiller:
    """Match predictions by the KL divergence from the teacher to a mixture of both.

    A class that the student misses does not dominate the gradient.
    The loss is :func:`jaxkd.losses.skewed_kl`.

    Args:
        skew: The teacher's share of the mixture, in [0, 1].
        temperature: Softening temperature; ``inf`` is allowed. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

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
    check_beginning(_checks.check_temperature, temperature=temperature)
    return from_loss(
        losses.skewed_kl, reads="logits", skew=skew, temperature=temperature
    )
