"""Methods that match the teacher's logits or softened predictions."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks, losses
from jaxkd.distillers._base import Distiller, DistillerState, Metrics
from jaxkd.distillers._from_loss import from_loss
from jaxkd.distillers._metadata import method
from jaxkd.distillers._schedules import Schedule, check_beginning
from jaxkd.distillers._unlabeled import of_labeled
from jaxkd.models import ModelOutput


@method(
    "ce",
    weights={"ce": 1.0},
    compares="labels, without a teacher",
    with_kd=False,
    unlabeled="zero",
    same_classes=False,
)
def cross_entropy() -> Distiller:
    r"""Train on the labels with cross-entropy, without a teacher.

    .. math::
        \ell = -\log \mathrm{softmax}(z^s)_y, \qquad
        \nabla_{z^s} \ell = \mathrm{softmax}(z^s) - e_y.

    If the images are mixed (:class:`jaxkd.data.Mixed`), it is the mean of the losses
    with both labels, weighted by their shares of the image.

    It is zero for images without a label (:attr:`Batch.labeled`). As training takes the
    mean over the whole batch, unlabeled images reduce the part's share of the loss, but
    each labeled image contributes as much to an epoch as without them.

    Returns:
        A distiller without parameters or state; its loss is in nats.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(ce=(1.0, distillers.cross_entropy()))
    """

    def init(rngs, spec):
        del rngs, spec
        return DistillerState(params={}, extra={})

    def loss(params, extra, student, teacher, batch):
        del params, teacher
        logits = _checks.as_float_array(student.logits, "student.logits")
        nats = optax.losses.softmax_cross_entropy_with_integer_labels
        labels = _checks.as_class_numbers(batch.labels, "batch.labels")
        per_example = nats(logits, labels)
        if batch.mixed is not None:
            partner, share = batch.mixed
            share = share.astype(per_example.dtype)
            partner = _checks.as_class_numbers(partner, "batch.mixed.labels")
            per_example += share * (nats(logits, partner) - per_example)
        return of_labeled(per_example, batch), extra, {}

    return Distiller(init, loss)


@method(
    "kd",
    weights={"ce": 0.1, "kd": 0.9},
    compares="predictions at T = 4",
    losses=(losses.soft_target_kl,),
    repdistiller="kd",
    with_kd=False,
)
def soft_targets(*, temperature: Real[ArrayLike, ""] | Schedule = 4.0) -> Distiller:
    """Match softened predictions (knowledge distillation, KD).

    The loss is :func:`jaxkd.losses.soft_target_kl`, exact for every temperature from
    1.4e-14 to infinity; at infinity it is half the variance of the logit differences.
    With a recorded teacher of which only the largest logits are known, it is
    :func:`jaxkd.losses.sparse_soft_target_kl`.

    Args:
        temperature: Softening temperature; ``inf`` is allowed. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

    Returns:
        A distiller without parameters or state; its metrics are those of
        :func:`logit_matching`, although this loss does not depend on the gap of the
        means.

    Raises:
        ValueError: If the temperature is not positive, or too small for the dtype.

    Example:
        >>> from jaxkd import distillers
        >>> kd = distillers.soft_targets(temperature=4.0)

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, Sec. 2.
    """
    check_beginning(_checks.check_temperature, temperature=temperature)
    return from_loss(
        _soft_target_kl,
        reads="top_logits",
        name="soft_targets",
        metrics=_mean_gap,
        temperature=temperature,
    )


@method(
    "lm",
    weights={"lm": 1.0},
    compares="logits",
    losses=(losses.logit_matching,),
    recipe="logit-matching",
    with_kd=False,
)
def logit_matching() -> Distiller:
    """Regress the student's logits on the teacher's.

    The loss is :func:`jaxkd.losses.logit_matching`: :func:`soft_targets` at infinite
    temperature plus :func:`jaxkd.losses.mean_gap`, which pulls the mean logits of
    student and teacher together. A softmax is invariant to it.

    Returns:
        A distiller without parameters or state; its metrics are ``agreement``, the
        share of examples on which student and teacher predict the same class, and
        ``mean_gap``, the mean of :func:`jaxkd.losses.mean_gap`.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(lm=(1.0, distillers.logit_matching()))

    References:
        Ba and Caruana, `Do Deep Nets Really Need to be Deep?
        <https://arxiv.org/abs/1312.6184>`_, 2014, Eq. 1.
    """
    return from_loss(losses.logit_matching, reads="logits", metrics=_mean_gap)


@method(
    "ttm",
    weights={"ce": 1.0, "ttm": 1.0},
    compares="predictions, the teacher's softened",
    losses=(losses.transformed_teacher_matching,),
)
def transformed_teacher_matching(
    *,
    temperature: Real[ArrayLike, ""] | Schedule = 4.0,
) -> Distiller:
    """Match the softened teacher with an unsoftened student (TTM).

    The loss is :func:`jaxkd.losses.transformed_teacher_matching`.

    Args:
        temperature: The teacher's temperature, finite. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

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
    check_beginning(_checks.check_finite_temperature, temperature=temperature)
    return from_loss(
        losses.transformed_teacher_matching, reads="logits", temperature=temperature
    )


@method(
    "wttm",
    weights={"ce": 1.0, "wttm": 1.0},
    compares="predictions, the teacher's softened, weighted by its power sum",
    losses=(losses.weighted_transformed_teacher_matching,),
)
def weighted_transformed_teacher_matching(
    *,
    temperature: Real[ArrayLike, ""] | Schedule = 4.0,
) -> Distiller:
    """Match the transformed teacher, weighted by the teacher's power sum (WTTM).

    The loss is :func:`jaxkd.losses.weighted_transformed_teacher_matching`.

    Args:
        temperature: The teacher's temperature, finite. It may be a
            schedule, as a weight of :func:`weighted`; its value is then a metric.

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
    check_beginning(_checks.check_finite_temperature, temperature=temperature)
    return from_loss(
        losses.weighted_transformed_teacher_matching,
        reads="logits",
        temperature=temperature,
    )


def _soft_target_kl(
    student: Float[Array, "batch classes"],
    teacher: Float[Array, "batch classes"],
    top: losses.TopLogits | None,
    *,
    temperature: Real[ArrayLike, ""],
) -> Float[Array, " batch"]:
    if top is None:
        return losses.soft_target_kl(student, teacher, temperature=temperature)
    return losses.sparse_soft_target_kl(
        student,
        top.values,
        top.indices,
        remainder=top.remainder(temperature),
        temperature=temperature,
    )


def _mean_gap(student: ModelOutput, teacher: ModelOutput) -> Metrics:
    return {"mean_gap": jnp.mean(losses.mean_gap(student.logits, teacher.logits))}
