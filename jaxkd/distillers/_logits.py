"""Methods that read logits alone and keep no state."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, DTypeLike, Float, Real

from jaxkd import _checks, losses
from jaxkd.distillers._base import Distiller, DistillerState, require_teacher
from jaxkd.models import ModelOutput


def _stateless(rngs, spec) -> DistillerState:
    del rngs, spec
    return DistillerState(params={}, extra={})


def cross_entropy() -> Distiller:
    r"""Cross-entropy with the labels: training without a teacher.

    .. math::
        \ell = -\log \mathrm{softmax}(z^s)_y, \qquad
        \nabla_{z^s} \ell = \mathrm{softmax}(z^s) - e_y.

    If the images are mixed (:class:`jaxkd.data.Mixed`), it is the mean of the losses
    with both labels, weighted by their shares of the image.

    Returns:
        A distiller without parameters or state; its loss is in nats.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(ce=(1.0, distillers.cross_entropy()))
    """

    def loss(params, extra, student, teacher, batch):
        del params, teacher
        logits = _checks.as_float_array(student.logits, "student.logits")
        nats = optax.losses.softmax_cross_entropy_with_integer_labels
        per_example = nats(logits, batch.labels)
        if batch.mixed is not None:
            partner, share = batch.mixed
            share = share.astype(per_example.dtype)
            per_example += share * (nats(logits, partner) - per_example)
        return per_example, extra, {}

    return Distiller(_stateless, loss)


def soft_targets(*, temperature: Real[ArrayLike, ""] = 4.0) -> Distiller:
    """Knowledge distillation by softened predictions.

    The loss is :func:`jaxkd.losses.soft_target_kl`, exact for every temperature in
    ``(0, inf]``; at infinity it is half the variance of the logit differences.

    Args:
        temperature: Softening temperature; ``inf`` is allowed.

    Returns:
        A distiller without parameters or state; its metrics are those of
        :func:`logit_matching`, though this loss leaves the gap of the means alone.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> from jaxkd import distillers
        >>> kd = distillers.soft_targets(temperature=4.0)

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, Sec. 2.
    """
    _checks.check_positive(temperature=temperature)
    return from_logits(
        "soft_targets",
        lambda student, teacher, labels: losses.soft_target_kl(
            student, teacher, temperature=temperature
        ),
        _mean_gap,
    )


def logit_matching() -> Distiller:
    """Regression on the teacher's logits.

    The loss is :func:`jaxkd.losses.logit_matching`: :func:`soft_targets` at infinite
    temperature plus :func:`jaxkd.losses.mean_gap`, which pulls the mean logits of
    student and teacher together and which no softmax sees.

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
    return from_logits(
        "logit_matching",
        lambda student, teacher, labels: losses.logit_matching(student, teacher),
        _mean_gap,
    )


def from_logits(
    name: str,
    loss_of_logits: Callable[[Array, Array, Array], Float[Array, " batch"]],
    metrics_of_logits: Callable[[Array, Array], dict[str, Float[Array, ""]]] = (
        lambda student, teacher: {}
    ),
) -> Distiller:
    """A distiller without parameters or state, from a loss of logits.

    Args:
        name: Of the method, for messages.
        loss_of_logits: ``(student_logits, teacher_logits, labels) -> per_example``.
        metrics_of_logits: ``(student_logits, teacher_logits) -> {name: value}``.

    Returns:
        A distiller; its metrics are ``agreement``, the share of examples on which
        student and teacher predict the same class, and those of ``metrics_of_logits``.
    """

    def init(rngs, spec):
        require_teacher(spec, name)
        return _stateless(rngs, spec)

    def loss(params, extra, student, teacher, batch):
        del params
        per_example = loss_of_logits(student.logits, teacher.logits, batch.labels)
        agreement = _agreement(student, teacher, per_example.dtype)
        metrics = metrics_of_logits(student.logits, teacher.logits)
        return per_example, extra, {"agreement": agreement, **metrics}

    return Distiller(init, loss)


def _mean_gap(student: Array, teacher: Array) -> dict[str, Float[Array, ""]]:
    return {"mean_gap": jnp.mean(losses.mean_gap(student, teacher))}


def _agreement(
    student: ModelOutput, teacher: ModelOutput, dtype: DTypeLike
) -> Float[Array, ""]:
    """The share of examples on which both networks predict the same class."""
    same = student.logits.argmax(-1) == teacher.logits.argmax(-1)
    return jnp.mean(same, dtype=dtype)
