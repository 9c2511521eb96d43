"""A method whose student predicts with the teacher's classifier."""

import jax.numpy as jnp

from jaxkd import losses
from jaxkd._errors import InvalidInputError
from jaxkd._math import pool_to_match
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    Spec,
    require_classifier,
    require_stages,
    require_teacher,
)
from jaxkd.distillers._metadata import method
from jaxkd.models import ReusedClassifier


@method(
    "simkd",
    weights={"simkd": 1.0},
    compares="the last map, projected for the teacher's classifier",
    reads=("stages",),
    same_classes=True,
    losses=(losses.hint,),
    with_kd=False,
)
def reused_classifier() -> Distiller:
    r"""Train a projector in front of the teacher's classifier, reused (SimKD).

    The student becomes a :class:`jaxkd.models.ReusedClassifier`: its last feature map
    goes through a projector :math:`P` and then through the teacher's pooling and
    classifier, which do not change. The student only learns to reproduce the
    teacher's last map :math:`F^t`:

    .. math::
        \ell = \operatorname{mean}(P(F^s) - F^t)^2,

    the mean over positions and channels; the larger map is average-pooled to the
    smaller. Without other parts it needs no labels. Projector and classifier belong to
    the student: evaluation, checkpoints and exports include them.

    Returns:
        A distiller without heads. Its metric is the agreement of the two networks'
        predictions, ``agreement``.

    Raises:
        ValueError: From ``init``, if there is no teacher, its classifier is not known
            (see :func:`jaxkd.training.freeze`) or does not read the mean of its last
            map, the classes differ, or a network returns no feature maps.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     simkd=(1.0, distillers.reused_classifier()),
        ... )

    References:
        Chen et al., `Knowledge Distillation with the Reused Teacher Classifier
        <https://arxiv.org/abs/2203.14001>`_, 2022, Eq. 4.
    """

    def student(network, spec, rngs):
        classifier = require_classifier(spec, "reused_classifier")
        require_teacher(spec, "reused_classifier")
        own, teacher = require_stages(spec, "reused_classifier", equal=False)
        _check_pooling(spec, teacher[-1].shape[-1])
        return ReusedClassifier(
            network,
            own[-1].shape[-1],
            *classifier,
            dtype=own[-1].dtype,
            rngs=rngs,
        )

    def init(rngs, spec):
        del rngs
        own, teacher = require_stages(spec, "reused_classifier", equal=False)
        if own[-1].shape[-1] != teacher[-1].shape[-1]:
            raise InvalidInputError(
                "reused_classifier compares the teacher's last map with the student's "
                f"projected one, but they have {teacher[-1].shape[-1]} and "
                f"{own[-1].shape[-1]} channels; use the network that "
                "Distiller.student returns",
                argument="spec",
            )
        return DistillerState({}, {})

    def loss(params, extra, student, teacher, batch):
        del params, batch
        maps = pool_to_match(student.stages[-1], teacher.stages[-1])
        agree = student.logits.argmax(-1) == teacher.logits.argmax(-1)
        metrics = {"agreement": jnp.mean(agree, dtype=jnp.float32)}
        return losses.hint(*maps), extra, metrics

    return Distiller(init, loss, student=student)


def _check_pooling(spec: Spec, channels: int) -> None:
    assert spec.classifier is not None
    features = spec.classifier.kernel.shape[0]
    if features != channels:
        raise InvalidInputError(
            "reused_classifier needs a teacher whose classifier reads the mean of its "
            f"last feature map, but the classifier reads {features} features and the "
            f"map has {channels} channels",
            argument="spec",
        )
