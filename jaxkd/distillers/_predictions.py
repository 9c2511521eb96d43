"""Methods that compare predictions class by class and across the batch."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import ArrayLike, Real

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller
from jaxkd.distillers._logits import from_logits


def decoupled_kl(
    *,
    target_weight: Real[ArrayLike, ""] = 1.0,
    non_target_weight: Real[ArrayLike, ""] = 8.0,
    temperature: Real[ArrayLike, ""] = 4.0,
) -> Distiller:
    """The label's and the other classes' divergences with weights of their own (DKD).

    The loss is :func:`jaxkd.losses.decoupled_kl`.

    Args:
        target_weight: Weight of the divergence of the label against the rest.
        non_target_weight: Weight of the divergence among the other classes.
        temperature: Softening temperature, finite.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.decoupled_kl()

    References:
        Zhao et al., `Decoupled Knowledge Distillation
        <https://arxiv.org/abs/2203.08679>`_, 2022, Eq. 7.
    """
    _checks.check_finite_positive(temperature=temperature)
    return from_logits(
        "decoupled_kl",
        lambda student, teacher, labels: losses.decoupled_kl(
            student,
            teacher,
            labels,
            target_weight=target_weight,
            non_target_weight=non_target_weight,
            temperature=temperature,
        ),
    )


def normalized_kl(
    *,
    non_target_weight: Real[ArrayLike, ""] = 1.5,
    temperature: Real[ArrayLike, ""] = 1.0,
) -> Distiller:
    """Soft cross-entropies of the label and of the other classes renormalised (NKD).

    The loss is :func:`jaxkd.losses.normalized_kl`.

    Args:
        non_target_weight: Weight of the cross-entropy among the other classes.
        temperature: Softening temperature of the other classes, finite.

    Returns:
        A distiller without parameters or state; its metric ``agreement`` is the
        share of examples on which student and teacher predict the same class.

    Raises:
        ValueError: If the temperature is not positive and finite.

    Example:
        >>> from jaxkd import distillers
        >>> method = distillers.normalized_kl()

    References:
        Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
        Unified Approach with Normalized Loss and Customized Soft Labels
        <https://arxiv.org/abs/2303.13005>`_, 2023, Sec. 3.1.
    """
    _checks.check_finite_positive(temperature=temperature)
    return from_logits(
        "normalized_kl",
        lambda student, teacher, labels: losses.normalized_kl(
            student,
            teacher,
            labels,
            non_target_weight=non_target_weight,
            temperature=temperature,
        ),
    )


def standardized_soft_targets(*, temperature: Real[ArrayLike, ""] = 2.0) -> Distiller:
    """Soft targets of standardised logits (LSKD).

    Both networks' logits are brought to mean zero and standard deviation one by
    :func:`jaxkd.losses.standardize_logits`, then compared by
    :func:`jaxkd.losses.soft_target_kl`. The student matches the relations of the
    teacher's logits, not their size.

    Args:
        temperature: Softening temperature; ``inf`` is allowed.

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
    _checks.check_positive(temperature=temperature)
    return from_logits(
        "standardized_soft_targets",
        lambda student, teacher, labels: losses.soft_target_kl(
            losses.standardize_logits(student),
            losses.standardize_logits(teacher),
            temperature=temperature,
        ),
    )


def class_relation(
    *,
    inter_weight: Real[ArrayLike, ""] = 1.0,
    intra_weight: Real[ArrayLike, ""] = 1.0,
    temperature: Real[ArrayLike, ""] = 4.0,
) -> Distiller:
    r"""Correlations of softened predictions, over the classes and the batch (DIST).

    With :func:`jaxkd.losses.inter_class_relation` of example :math:`i` and the mean of
    :func:`jaxkd.losses.intra_class_relation` over the classes,

    .. math::
        \ell_i = T^2 \left[\beta\, \ell^{\mathrm{inter}}_i
            + \gamma \mathop{\mathrm{mean}}_c \ell^{\mathrm{intra}}_c\right].

    Args:
        inter_weight: :math:`\beta`.
        intra_weight: :math:`\gamma`.
        temperature: Softening temperature :math:`T`, finite.

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
    _checks.check_finite_positive(temperature=temperature)

    def loss(student, teacher, labels):
        del labels
        inter = losses.inter_class_relation(student, teacher, temperature=temperature)
        intra = losses.intra_class_relation(student, teacher, temperature=temperature)
        t, beta, gamma = (
            jnp.asarray(x, inter.dtype)
            for x in (temperature, inter_weight, intra_weight)
        )
        return t * t * (beta * inter + gamma * jnp.mean(intra))

    return from_logits("class_relation", loss)


def multi_level(
    *, temperatures: Sequence[float | int] = (2.0, 3.0, 4.0, 5.0, 6.0)
) -> Distiller:
    """Predictions and their Gram matrices at several temperatures (MLKD).

    The loss is :func:`jaxkd.losses.multi_level`.

    Args:
        temperatures: Positive, finite, at least one.

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
    if len(temperatures) == 0:
        raise InvalidInputError("temperatures must hold at least one, got none")
    for t in temperatures:
        _checks.check_finite_positive(temperatures=t)
    return from_logits(
        "multi_level",
        lambda student, teacher, labels: losses.multi_level(
            student, teacher, temperatures=temperatures
        ),
    )
