"""The largest logits of each row, and what must be known of the others."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Real

from jaxkd._math import _stable

REMAINDER_TEMPERATURES = (1.0, 2.0, 4.0, 8.0, float("inf"))
"""The temperatures for which :class:`TopLogits` knows the others' mass exactly."""


class TopLogits(NamedTuple):
    """The largest logits of each row, and the mass of the others.

    Attributes:
        values: The largest logits.
        indices: Their classes.
        remainders: The logit that all other classes would share if they had the same
            total mass, at the temperatures 1, 2, 4, 8 and infinity.
    """

    values: Float[Array, "*batch k"]
    indices: Integer[Array, "*batch k"]
    remainders: Float[Array, "*batch temperatures"]

    def remainder(self, temperature: Real[ArrayLike, ""]) -> Float[Array, "*batch"]:
        """Return the logit that the other classes share at a temperature.

        It is exact at the temperatures 1, 2, 4, 8 and infinity. Between two of them it
        is interpolated linearly in 1/T; like the exact one, it lies between their
        values. Below 1 it is that of temperature 1.
        """
        dtype = self.remainders.dtype
        known = 1.0 / np.asarray(REMAINDER_TEMPERATURES, dtype)[::-1]
        inverse = 1.0 / jnp.asarray(temperature, dtype)
        units = jnp.eye(len(known), dtype=dtype)[::-1]
        weights = jax.vmap(lambda unit: jnp.interp(inverse, known, unit))(units)
        weights = jnp.broadcast_to(weights, self.remainders.shape)
        # Zero times -inf would be NaN.
        terms = jnp.where(weights > 0.0, weights * self.remainders, 0.0)
        return jnp.sum(terms, axis=-1)


def power_mean(
    logits: Float[Array, "*batch classes"],
    keep: Bool[Array, "*batch classes"],
    count: int,
    temperature: Float[Array, ""],
) -> Float[Array, "*batch"]:
    r"""Compute the logit that some classes would share if they had the same mass.

    .. math::
        r = T \log \frac{1}{n} \sum_k e^{z_k / T}

    over :math:`n` classes. It falls from the largest logit at :math:`T \to 0` to the
    mean at :math:`T = \infty`.

    Args:
        logits: The logits.
        keep: The classes, as a mask.
        count: Their number in each row, :math:`n`.
        temperature: The temperature, or infinity.
    """
    highest = jnp.max(logits, axis=-1, where=keep, initial=-jnp.inf, keepdims=True)
    highest = jax.lax.stop_gradient(highest)
    highest = jnp.where(jnp.isneginf(highest), 0.0, highest)
    # Relative to the largest, so that nothing cancels at high temperatures.
    below = jnp.where(keep, logits - highest, 0.0)
    finite = jnp.where(jnp.isinf(temperature), 1.0, temperature)
    scaled = below / finite
    mean = _stable.pairwise_sum(jnp.expm1(scaled)) / count
    total = _stable.pairwise_sum(jnp.where(keep, jnp.exp(scaled), 0.0))
    close = mean > -0.5
    log_mean = jnp.where(
        close,
        jnp.log1p(jnp.where(close, mean, 0.0)),
        jnp.log(jnp.where(close, 1.0, total)) - math.log(count),
    )
    limit = _stable.pairwise_sum(below) / count
    spread = jnp.where(jnp.isinf(temperature), limit, finite * log_mean)
    return highest[..., 0] + spread
