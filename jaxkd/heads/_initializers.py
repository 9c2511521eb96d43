"""How the published heads start."""

import jax
from flax import nnx


def uniform(limit: float) -> nnx.Initializer:
    """Draws from ``[-limit, limit)``."""

    def init(key, shape, dtype=float, out_sharding=None):
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
