"""Methods that treat the labeled class apart from the others."""

from jaxtyping import ArrayLike, Real

from jaxkd import _checks, losses
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._from_loss import from_loss
from jaxkd.distillers._metadata import method
from jaxkd.distillers._schedules import Schedule, check_beginning


@method(
    "dkd",
    weights={"ce": 1.0, "dkd": 1.0},
    compares="target class and other classes apart",
    losses=(losses.decoupled_kl,),
    warmup_epochs=20,
    unlabeled="zero",
)
def decoupled_kl(
    *,
    target_weight: Real[ArrayLike, ""] = 1.0,
    non_target_weight: Real[ArrayLike, ""] = 8.0,
    temperature: Real[ArrayLike, ""] | Schedule = 4.0,
) -> Distiller:
    """Match the labeled class and the other classes with separate weights (DKD).

    The loss is :func:`jaxkd.losses.decoupled_kl`, and zero for images without a label.
    As published, the recipe raises the weight linearly over the first 20 epochs
    (:func:`warmup`).

    Args:
        target_weight: Weight of the divergence of the label against the rest.
        non_target_weight: Weight of the divergence among the other classes.
        temperature: Softening temperature, finite. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If a setting is not finite, or out of range.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.decoupled_kl()

    References:
        Zhao et al., `Decoupled Knowledge Distillation
        <https://arxiv.org/abs/2203.08679>`_, 2022, Eq. 7.
    """
    _checks.check_finite_not_negative(
        target_weight=target_weight, non_target_weight=non_target_weight
    )
    check_beginning(_checks.check_finite_temperature, temperature=temperature)
    return from_loss(
        losses.decoupled_kl,
        reads="labeled_logits",
        target_weight=target_weight,
        non_target_weight=non_target_weight,
        temperature=temperature,
    )


@method(
    "nkd",
    weights={"ce": 1.0, "nkd": 1.0},
    compares="other classes renormalized",
    losses=(losses.normalized_kl,),
    unlabeled="zero",
)
def normalized_kl(
    *,
    non_target_weight: Real[ArrayLike, ""] = 1.5,
    temperature: Real[ArrayLike, ""] | Schedule = 1.0,
) -> Distiller:
    """Match the label and the renormalized other classes by cross-entropy (NKD).

    The loss is :func:`jaxkd.losses.normalized_kl`, and zero for images without a label.

    Args:
        non_target_weight: Weight of the cross-entropy among the other classes.
        temperature: Softening temperature of the other classes, finite. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If a setting is not finite, or out of range.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.normalized_kl()

    References:
        Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
        Unified Approach with Normalized Loss and Customized Soft Labels
        <https://arxiv.org/abs/2303.13005>`_, 2023, Sec. 3.1.
    """
    _checks.check_finite_not_negative(non_target_weight=non_target_weight)
    check_beginning(_checks.check_finite_temperature, temperature=temperature)
    return from_loss(
        losses.normalized_kl,
        reads="labeled_logits",
        non_target_weight=non_target_weight,
        temperature=temperature,
    )
