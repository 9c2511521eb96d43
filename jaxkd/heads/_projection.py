"""Projection of an embedding for self-supervision."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd.heads._initializers import uniform


class Projection(nnx.Module):
    r"""Perceptron with one hidden layer (ReLU); all layers are as wide as the input.

    Weights and biases are drawn from :math:`U(\pm 1/\sqrt{n})`, where ``n`` is the
    number of features, as in the published implementation.

    Args:
        features: Width of input and output.
        dtype: Dtype of parameters and computation.
        rngs: Randomness for the initial parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> heads.Projection(3, rngs=nnx.Rngs(0))(jnp.ones((4, 3))).shape
        (4, 3)

    References:
        Xu et al., `Knowledge Distillation Meets Self-Supervision
        <https://arxiv.org/abs/2006.07114>`_, 2020, Sec. 3.2.
    """

    def __init__(
        self, features: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        _checks.check_at_least(1, features=features)
        init = uniform(1 / math.sqrt(features))

        def linear():
            return nnx.Linear(
                features,
                features,
                dtype=dtype,
                param_dtype=dtype,
                kernel_init=init,
                bias_init=init,
                rngs=rngs,
            )

        self.hidden = linear()
        self.out = linear()

    def __call__(
        self, x: Float[ArrayLike, "batch features"]
    ) -> Float[Array, "batch features"]:
        """Project a batch of embeddings."""
        return self.out(nnx.relu(self.hidden(_checks.as_float_array(x, "x"))))
