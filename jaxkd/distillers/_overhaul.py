"""The overhaul of feature distillation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkd import heads, losses
from jaxkd._math import pool_to_match
from jaxkd.distillers._base import Distiller, DistillerState
from jaxkd.distillers._metadata import method
from jaxkd.distillers._stages import (
    head_dtype,
    init_stages,
    require_maps,
    stage_heads,
    summed,
)


@method(
    "ofd",
    weights={"ce": 1.0, "ofd": 1e-3},
    compares="parts of the maps before the activation",
    reads=("stages",),
    losses=(losses.overhaul,),
)
def overhaul() -> Distiller:
    r"""Match preactivations where they affect the teacher's ReLU output (OFD).

    The loss is :func:`jaxkd.losses.overhaul` on the maps before their activation, each
    of the student's mapped by a :class:`jaxkd.heads.Connector`. With stages 1 to n, the
    stem left out,

    .. math::
        \ell = \sum_{i=1}^n 2^{i - n} \ell_i.

    It is a sum over all positions and channels: the published weight is 1/1000. If the
    maps differ in size, the larger is average-pooled to the smaller.

    The margin of a channel is the mean of the teacher's negative values. The paper
    computes it from the last batch normalization's scale and offset, for values that
    are normally distributed. A distiller receives the network's outputs and not its
    layers. So here the margin is the mean over the first batch, or 0 for a channel
    without negative values there, and does not change from then on.

    Returns:
        A distiller. Its parameters are the connectors'; its state are the margins and
        the statistics of the connectors. Its metrics are the weighted mean loss of each
        stage, ``stage1`` and so on.

    Raises:
        ValueError: From ``init``, if there is no teacher, a network does not return its
            maps before the activation, or the networks' stages do not correspond.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     overhaul=(1e-3, distillers.overhaul()),
        ... )

    References:
        Heo et al., `A Comprehensive Overhaul of Feature Distillation
        <https://arxiv.org/abs/1904.01866>`_, 2019.
    """

    def make_connectors(student, teacher):
        def make(s, t):
            channels, dtype = (s.shape[-1], t.shape[-1]), head_dtype(s)
            return lambda rngs: heads.Connector(*channels, dtype=dtype, rngs=rngs)

        return stage_heads(make, student, teacher)

    def init(rngs, spec):
        maps = require_maps(spec, "overhaul", preactivations=True)
        makes = make_connectors(*maps)
        params, statistics = init_stages(makes, rngs)
        margins = {
            name: jnp.zeros(t.shape[-1], head_dtype(t))
            for name, t in zip(makes, maps[1][1:], strict=True)
        }
        return DistillerState(
            params,
            {"statistics": statistics, "margins": margins, "known": jnp.bool(False)},
        )

    def loss(params, extra, student, teacher, batch):
        del batch
        maps = student.preactivations, jax.lax.stop_gradient(teacher.preactivations)
        makes = make_connectors(*maps)
        parts, statistics, margins = {}, {}, {}
        stages = zip(makes.items(), maps[0][1:], maps[1][1:], strict=True)
        for i, ((name, make), s, t) in enumerate(stages, start=1):
            known = extra["margins"][name]
            margins[name] = jnp.where(
                extra["known"], known, _mean_of_negatives(t).astype(known.dtype)
            )
            connector = heads.bind_heads(make, params[name], extra["statistics"][name])
            s, t = pool_to_match(s, t)
            parts[name] = 2.0 ** (i - len(makes)) * losses.overhaul(
                connector(s), t, margins[name]
            )
            statistics[name] = heads.rest_of(connector)
        total, metrics = summed(parts)
        extra = {
            "statistics": statistics,
            "margins": margins,
            "known": jnp.bool(True),
        }
        return total, extra, metrics

    return Distiller(init, loss)


def _mean_of_negatives(x: Float[Array, "b h w c"]) -> Float[Array, " c"]:
    """Return each channel's mean over its negative values, or 0 without any."""
    x = x.astype(head_dtype(x))
    count = jnp.sum(x < 0.0, axis=(0, 1, 2), dtype=x.dtype)
    total = jnp.sum(jnp.minimum(x, 0.0), axis=(0, 1, 2))
    return total / jnp.maximum(count, 1.0)
