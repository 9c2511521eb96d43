"""Graph network that maps embeddings to holistic knowledge."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxkd import _checks, graphs
from jaxkd._math import l2_normalize

# Xavier's normal initialization with gain √2: variance 2 · 2/(fan_in + fan_out).
_XAVIER_NORMAL = jax.nn.initializers.variance_scaling(2.0, "fan_avg", "normal")


class GraphEncoder(nnx.Module):
    r"""Topology-adaptive graph convolution over the batch, then scaling to unit length.

    The result is :math:`g = W [h;\, P h;\, \dots;\, P^{hops} h] + b`, divided by its
    norm, where :math:`P` is the mean over an example's neighbors. On a nearest-neighbor
    graph, whose in-degree is constant, the degree normalization of the published layer
    is this mean.

    Args:
        dim: Width of the input and output embeddings.
        hops: Largest distance of the examples that contribute to an output.
        rngs: Randomness for the initial parameters.

    References:
        Du et al., `Topology Adaptive Graph Convolutional Networks
        <https://arxiv.org/abs/1710.10370>`_, 2017.
    """

    def __init__(self, dim: int, *, hops: int = 1, rngs: nnx.Rngs):
        _checks.check_at_least(1, dim=dim, hops=hops)
        self.linear = nnx.Linear(
            (hops + 1) * dim, dim, kernel_init=_XAVIER_NORMAL, rngs=rngs
        )
        self.hops = hops

    def __call__(
        self,
        embeddings: Float[Array, "batch dim"],
        neighbors: Int[Array, "batch k"],
    ) -> Float[Array, "batch dim"]:
        """Encode each example together with its neighborhood."""
        powers = [embeddings]
        for _ in range(self.hops):
            powers.append(graphs.propagate(powers[-1], neighbors))
        return l2_normalize(self.linear(jnp.concatenate(powers, axis=-1)))
