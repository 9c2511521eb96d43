"""Relational distillation: distances and angles among the examples of a batch."""

import jax.numpy as jnp

from jaxkd import _checks, losses
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller, DistillerState, require_embeddings
from jaxkd.distillers._metadata import method


@method(
    "rkd",
    weights={"ce": 1.0, "rkd": 1.0},
    compares="distances and angles of embeddings",
    reads=("embedding",),
    losses=(
        losses.relational_distance,
        losses.relational_angle,
    ),
    repdistiller="rkd",
)
def relational(
    *, distance_weight: float | int = 25.0, angle_weight: float | int = 50.0
) -> Distiller:
    """Match the distances and angles among the batch's embeddings (RKD).

    The loss is ``distance_weight`` times :func:`jaxkd.losses.relational_distance` plus
    ``angle_weight`` times :func:`jaxkd.losses.relational_angle`. Published weight: 1.

    Args:
        distance_weight: Weight of the distances.
        angle_weight: Weight of the angles. A term of weight zero is not computed.

    Returns:
        A distiller without parameters or state; its metrics are the mean of each term,
        under ``distance`` and ``angle``.

    Raises:
        ValueError: If a weight is negative or not finite, or both are zero; from
            ``init``, if there is no teacher.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     rkd=(1.0, distillers.relational()),
        ... )

    References:
        Park et al., `Relational Knowledge Distillation
        <https://arxiv.org/abs/1904.05068>`_, 2019.
    """
    weights = {"distance_weight": distance_weight, "angle_weight": angle_weight}
    _checks.check_finite_not_negative(**weights)
    if not any(weights.values()):
        raise InvalidInputError(
            "distance_weight and angle_weight are both 0, so nothing would be trained; "
            "give one a positive value",
            argument="distance_weight",
        )

    def init(rngs, spec):
        del rngs
        require_embeddings(spec, "relational")
        return DistillerState(params={}, extra={})

    def loss(params, extra, student, teacher, batch):
        del params, batch
        embeddings = student.embedding, teacher.embedding
        parts, metrics = [], {}
        if distance_weight:
            distance = losses.relational_distance(*embeddings)
            parts.append(distance_weight * distance)
            metrics["distance"] = jnp.mean(distance)
        if angle_weight:
            angle = losses.relational_angle(*embeddings)
            parts.append(angle_weight * angle)
            metrics["angle"] = jnp.mean(angle)
        return jnp.sum(jnp.stack(parts), axis=0), extra, metrics

    return Distiller(init, loss)
