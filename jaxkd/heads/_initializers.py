"""Initializers of the published heads."""

import jax
from flax import nnx


def uniform(limit: float) -> nnx.Initializer:
    """Return an initializer that draws uniformly from ``[-limit, limit)``."""

    def init(key, shape, dtype=float, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
