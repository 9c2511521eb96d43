"""The published optimizer."""

from collections.abc import Sequence

import optax

from jaxkd import _checks
from jaxkd._errors import InvalidInputError


def published_sgd(
    total_steps: int,
    *,
    learning_rate: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    milestones: Sequence[float] = (150 / 240, 180 / 240, 210 / 240),
    decay: float = 0.1,
) -> optax.GradientTransformation:
    r"""SGD as the published benchmarks train: L2 decay on everything, step schedule.

    .. math::
        v \leftarrow \mu v + g + \lambda \theta, \qquad
        \theta \leftarrow \theta - \eta v

    Args:
        total_steps: Steps of the whole run; the milestones are fractions of it.
        learning_rate: Initial rate; published: 0.05, and 0.01 for
            MobileNetV2 and the ShuffleNets.
        momentum: Momentum :math:`\mu`.
        weight_decay: Coefficient :math:`\lambda`, on batch norms and biases too.
        milestones: Where in the run the rate falls; published: after 150, 180 and 210
            of 240 epochs.
        decay: Factor at each milestone.

    Returns:
        An optax optimizer.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> from jaxkd import training
        >>> optimizer = training.published_sgd(total_steps=1000, learning_rate=0.1)
    """
    _checks.check_at_least(1, total_steps=total_steps)
    _checks.check_finite_positive(learning_rate=learning_rate, decay=decay)
    _checks.check_in_range(0.0, 1.0, momentum=momentum)
    if not 0 <= weight_decay < float("inf"):
        raise InvalidInputError(f"weight_decay must be at least 0, got {weight_decay}")
    for milestone in milestones:
        _checks.check_in_range(0.0, 1.0, milestones=milestone)
    boundaries: dict[int, float] = {}
    for milestone in milestones:  # in a short run, milestones may share a step
        boundary = round(milestone * total_steps)
        boundaries[boundary] = boundaries.get(boundary, 1.0) * decay
    schedule = optax.piecewise_constant_schedule(learning_rate, boundaries)
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(schedule, momentum=momentum),
    )
