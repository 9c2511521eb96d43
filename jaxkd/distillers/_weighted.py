"""A weighted sum of distillers is a distiller."""

import functools
import math
import operator

import jax
import jax.numpy as jnp

from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import Distiller, DistillerState


def weighted(**parts: tuple[float, Distiller]) -> Distiller:
    r"""Combines methods into :math:`\sum_m w_m \ell_m`.

    A part of weight zero is left out altogether: it costs nothing and trains nothing.
    Each part draws its own randomness and keeps its own parameters and state, under
    its name.

    Args:
        **parts: ``name=(weight, distiller)``.

    Returns:
        A distiller. Its metrics are each part's mean loss, unweighted, under the
        part's name, and the part's own metrics as ``name/metric``.

    Raises:
        ValueError: If a weight is not finite, or no part has a weight.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(0.1, distillers.cross_entropy()),
        ...     kd=(0.9, distillers.soft_targets(temperature=4.0)),
        ... )
    """
    for name, (weight, _) in parts.items():
        if not math.isfinite(weight):
            raise InvalidInputError(
                f"the weight of {name} must be finite, got {weight}"
            )
    active = {name: part for name, part in parts.items() if part[0] != 0}
    if not active:
        raise InvalidInputError("weighted() needs a part whose weight is not zero")

    def init(rngs, spec):
        states = {name: part.init(rngs, spec) for name, (_, part) in active.items()}
        return DistillerState(
            params={name: state.params for name, state in states.items()},
            extra={name: state.extra for name, state in states.items()},
        )

    def loss(params, extra, student, teacher, batch):
        losses, next_extra, metrics = [], {}, {}
        for index, (name, (weight, part)) in enumerate(active.items()):
            own = batch._replace(key=jax.random.fold_in(batch.key, index))
            value, next_extra[name], details = part.loss(
                params[name], extra[name], student, teacher, own
            )
            losses.append(weight * value)
            metrics[name] = jnp.mean(value)
            metrics |= {f"{name}/{key}": detail for key, detail in details.items()}
        return functools.reduce(operator.add, losses), next_extra, metrics

    return Distiller(init, loss)
