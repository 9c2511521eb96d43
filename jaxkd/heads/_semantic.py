"""Heads of semantic calibration: embeddings of similarities, and projections."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._math import l2_normalize
from jaxkd.heads._convolution import batch_norm, convolution, normalized
from jaxkd.heads._initializers import uniform


class SimilarityEmbedding(nnx.Module):
    r"""Embedding of each example's similarities to the examples of its batch.

    Let :math:`m` be the example's row of the batch's similarity matrix and
    :math:`y = W_2 \max(W_1 m + b_1, 0) + b_2`. The result is
    :math:`y/\lVert y \rVert`. The hidden layer is twice as wide as the result. Weights
    and biases are drawn from :math:`U(\pm 1/\sqrt{n})`, where ``n`` is the number of
    inputs.

    Args:
        batch_size: Length of a row. Batches of other sizes are not supported.
        dim: Width of the result.
        dtype: Dtype of parameters and computation.
        rngs: Randomness for the initial parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> embedding = heads.SimilarityEmbedding(8, 2, rngs=nnx.Rngs(0))
        >>> embedding(jnp.eye(8)).shape
        (8, 2)

    References:
        Chen et al., `Cross-Layer Distillation with Semantic Calibration
        <https://arxiv.org/abs/2012.03236>`_, 2021, Sec. 3.
    """

    def __init__(
        self,
        batch_size: int,
        dim: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(1, batch_size=batch_size, dim=dim)

        def linear(inputs, outputs):
            init = uniform(1 / math.sqrt(inputs))
            return nnx.Linear(
                inputs,
                outputs,
                dtype=dtype,
                param_dtype=dtype,
                kernel_init=init,
                bias_init=init,
                rngs=rngs,
            )

        self.hidden = linear(batch_size, 2 * dim)
        self.out = linear(2 * dim, dim)

    def __call__(
        self, similarities: Float[ArrayLike, "batch batch"]
    ) -> Float[Array, "batch dim"]:
        """Embed a batch, one row of unit length per example.

        Raises:
            ValueError: If the batch size differs from that of the head.
        """
        rows = _checks.as_float_array(similarities, "similarities")
        batch_size = self.hidden.kernel[...].shape[0]
        if len(rows) != batch_size:
            raise InvalidInputError(
                f"similarities must be those of a batch of {batch_size} examples, got "
                f"{len(rows)}; keep the batch size constant",
                argument="similarities",
            )
        return l2_normalize(self.out(nnx.relu(self.hidden(rows))))


class CrossLayerProjection(nnx.Module):
    """Convolutions that map a stage of the student to a stage of the teacher.

    The three convolutions (1x1, 3x3, 1x1) have no biases. Batch normalization and a
    ReLU follow the first two, whose outputs have twice the teacher's channels. Height
    and width do not change. Weights have PyTorch's default initialization.

    Args:
        in_channels: Channels of the student's map.
        out_channels: Channels of the teacher's map.
        dtype: Dtype of parameters, statistics and computation.
        rngs: Randomness for the initial parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> projection = heads.CrossLayerProjection(3, 5, rngs=nnx.Rngs(0))
        >>> projection(jnp.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 5)

    References:
        Chen et al., `Cross-Layer Distillation with Semantic Calibration
        <https://arxiv.org/abs/2012.03236>`_, 2021, Sec. 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(1, in_channels=in_channels, out_channels=out_channels)
        width = 2 * out_channels

        def conv(inputs, outputs, size):
            return convolution(
                inputs,
                outputs,
                (size, size),
                padding=size // 2,
                use_bias=False,
                dtype=dtype,
                rngs=rngs,
            )

        self.conv_in = conv(in_channels, width, 1)
        self.norm_in = batch_norm(width, dtype=dtype, rngs=rngs)
        self.conv_mid = conv(width, width, 3)
        self.norm_mid = batch_norm(width, dtype=dtype, rngs=rngs)
        self.conv_out = conv(width, out_channels, 1)

    def __call__(
        self, x: Float[ArrayLike, "b h w c"]
    ) -> Float[Array, "b h w channels"]:
        """Map a batch of the student's feature maps."""
        x = self.conv_in(_checks.as_float_array(x, "x"))
        x = nnx.relu(normalized(self.norm_in, x))
        x = nnx.relu(normalized(self.norm_mid, self.conv_mid(x)))
        return self.conv_out(x)
