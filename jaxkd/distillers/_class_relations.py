"""Methods that compare predictions across the classes and across the batch."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import ArrayLike, Real

from jaxkd import _checks, losses
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._from_loss import from_loss
from jaxkd.distillers._metadata import method
from jaxkd.distillers._schedules import Schedule, check_beginning


@method(
    "dist",
    weights={"ce": 1.0, "dist": 2.0},
    compares="correlations of predictions, by row and by column",
    losses=(
        losses.inter_class_relation,
        losses.intra_class_relation,
    ),
)
def class_relation(
    *,
    inter_weight: Real[ArrayLike, ""] = 1.0,
    intra_weight: Real[ArrayLike, ""] = 1.0,
    temperature: Real[ArrayLike, ""] | Schedule = 4.0,
) -> Distiller:
    r"""Match correlations of predictions, over the classes and the batch (DIST).

    With :func:`jaxkd.losses.inter_class_relation` of example :math:`i` and the mean of
    :func:`jaxkd.losses.intra_class_relation` over the classes,

    .. math::
        \ell_i = T^2 \left[\beta\, \ell^{\mathrm{inter}}_i
            + \gamma \mathop{\mathrm{mean}}_c \ell^{\mathrm{intra}}_c\right].

    Args:
        inter_weight: :math:`\beta`.
        intra_weight: :math:`\gamma`.
        temperature: Softening temperature :math:`T`, finite. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.class_relation()

    References:
        Huang et al., `Knowledge Distillation from A Stronger Teacher
        <https://arxiv.org/abs/2205.10536>`_, 2022, Eq. 10.
    """
    _checks.check_finite_not_negative(
        inter_weight=inter_weight, intra_weight=intra_weight
    )
    check_beginning(_checks.check_finite_temperature, temperature=temperature)

    def loss(student, teacher, *, temperature):
        inter = losses.inter_class_relation(student, teacher, temperature=temperature)
        intra = losses.intra_class_relation(student, teacher, temperature=temperature)
        t, beta, gamma = (
            jnp.asarray(x, inter.dtype)
            for x in (temperature, inter_weight, intra_weight)
        )
        return t * t * (beta * inter + gamma * jnp.mean(intra))

    return from_loss(
        loss, reads="logits", name="class_relation", temperature=temperature
    )


@method(
    "lskd",
    weights={"ce": 0.1, "lskd": 9.0},
    compares="standardized logits",
    losses=(losses.standardize_logits,),
)
def standardized_soft_targets(
    *, temperature: Real[ArrayLike, ""] | Schedule = 2.0
) -> Distiller:
    """Match soft targets of standardized logits (LSKD).

    The method standardizes both networks' logits with
    :func:`jaxkd.losses.standardize_logits` and compares them with
    :func:`jaxkd.losses.soft_target_kl`. The student matches the relations of the
    teacher's logits, not their size.

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
        >>> method = distillers.standardized_soft_targets(temperature=2.0)

    References:
        Sun et al., `Logit Standardization in Knowledge Distillation
        <https://arxiv.org/abs/2403.01427>`_, 2024, Alg. 1.
    """
    check_beginning(_checks.check_temperature, temperature=temperature)

    def loss(student, teacher, *, temperature):
        return losses.soft_target_kl(
            losses.standardize_logits(student),
            losses.standardize_logits(teacher),
            temperature=temperature,
        )

    return from_loss(
        loss, reads="logits", name="standardized_soft_targets", temperature=temperature
    )


@method(
    "mlkd",
    weights={"ce": 1.0, "mlkd": 1.0},
    compares="predictions, batch and class Gram matrices, at five temperatures",
    losses=(losses.multi_level,),
)
def multi_level(
    *, temperatures: Sequence[float | int] = (2.0, 3.0, 4.0, 5.0, 6.0)
) -> Distiller:
    """Match predictions and their Gram matrices at several temperatures (MLKD).

    The loss is :func:`jaxkd.losses.multi_level`.

    Args:
        temperatures: At least one positive, finite temperature.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If there are no temperatures, or one is not positive and finite.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.multi_level(temperatures=(2.0, 4.0))

    References:
        Jin et al., `Multi-Level Logit Distillation
        <https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html>`_,
        2023, Eq. 4 to 10.
    """
    _checks.check_temperatures(temperatures)
    return from_loss(losses.multi_level, reads="logits", temperatures=temperatures)
