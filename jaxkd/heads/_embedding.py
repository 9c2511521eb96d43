"""Linear embedding for contrastive and relational methods."""

import math

from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from jaxkd import _checks
from jaxkd._math import l2_normalize
from jaxkd.heads._initializers import uniform


class Embedding(nnx.Module):
    r"""Linear map, then scaling to unit length.

    :math:`h = y/\lVert y \rVert` with :math:`y = Wx + b`. Weights and biases are drawn
    from :math:`U(\pm 1/\sqrt{n})`, where ``n`` is the number of inputs, as in the
    published implementations (PyTorch's default for a linear layer).

    Args:
        in_features: Width of the input.
        dim: Width of the embedding.
        normalize: Whether to scale to unit length.
        rngs: Randomness for the initial parameters.
    """

    def __init__(
        self, in_features: int, dim: int, *, normalize: bool = True, rngs: nnx.Rngs
    ):
        _checks.check_at_least(1, in_features=in_features, dim=dim)
        init = uniform(1 / math.sqrt(in_features))
        self.linear = nnx.Linear(
            in_features, dim, kernel_init=init, bias_init=init, rngs=rngs
        )
        self.normalize = normalize

    def __call__(
        self, x: Float[ArrayLike, "batch features"]
    ) -> Float[Array, "batch dim"]:
        """Embed a batch, in at least float32."""
        y = self.linear(_checks.as_float_array(x, "x"))
        return l2_normalize(y) if self.normalize else y
