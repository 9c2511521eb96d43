"""A student that predicts with its teacher's classifier."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import ConvNorm, parameter_dtype
from jaxkd.models._output import ModelOutput

_REDUCTION = 2  # The projector's bottleneck, as published.


class ReusedClassifier(nnx.Module):
    r"""A network whose last feature map is projected for another network's classifier.

    The projector is three convolutions (1x1, 3x3, 1x1) with batch normalization and
    rectifier, with half the channels in between. Its output is a map like the
    teacher's last one, whose mean over positions goes through the teacher's linear
    classifier. That stays as it is: it is no ``nnx.Param``, so no optimizer sees it,
    but it belongs to the network's state, and so to checkpoints and exports.

    The output is the network's own, except that the projected map replaces the last
    of ``stages`` and of ``preactivations``, its mean the embedding, and what the
    classifier makes of that the logits. The network's own classifier is not used.

    Args:
        network: Returns a :class:`ModelOutput` with feature maps.
        in_channels: Channels of its last feature map.
        kernel: The classifier's matrix, features by classes.
        bias: What the classifier adds.
        dtype: Dtype of the projector's computation; parameters are at least float32.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If the shapes do not fit, or when called, if the network
            returns no feature maps.

    References:
        Chen et al., `Knowledge Distillation with the Reused Teacher Classifier
        <https://arxiv.org/abs/2203.14001>`_, 2022, Sec. 3.2.
    """

    def __init__(
        self,
        network: nnx.Module,
        in_channels: int,
        kernel: Float[ArrayLike, "features classes"],
        bias: Float[ArrayLike, " classes"],
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        kernel, bias = jnp.asarray(kernel), jnp.asarray(bias)
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            raise InvalidInputError(
                "kernel must be [features, classes] and bias [classes], got shapes "
                f"{kernel.shape} and {bias.shape}"
            )
        features = kernel.shape[0]
        _checks.check_at_least(1, in_channels=in_channels)
        hidden = max(1, features // _REDUCTION)
        self.features = features
        self.network = network
        self.projector = nnx.List(
            [
                ConvNorm(in_channels, hidden, 1, dtype=dtype, rngs=rngs),
                ConvNorm(hidden, hidden, 3, padding=1, dtype=dtype, rngs=rngs),
                ConvNorm(hidden, features, 1, dtype=dtype, rngs=rngs),
            ]
        )
        stored = parameter_dtype(dtype)
        self.kernel = nnx.Variable(jnp.array(kernel, stored))
        self.bias = nnx.Variable(jnp.array(bias, stored))

    def __call__(self, images: Float[Array, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        output = self.network(images)
        if not output.stages:
            raise InvalidInputError(
                "network must return feature maps in 'stages' for its last one to be "
                f"projected; {type(self.network).__name__} returns none"
            )
        *body, last = self.projector
        x = output.stages[-1]
        for layer in body:
            x = nnx.relu(layer(x))
        before = last(x)
        projected = nnx.relu(before)
        embedding = jnp.mean(projected, axis=(1, 2))
        kernel, bias = (v[...].astype(x.dtype) for v in (self.kernel, self.bias))
        return ModelOutput(
            logits=embedding @ kernel + bias[None],
            embedding=embedding,
            stages=(*output.stages[:-1], projected),
            preactivations=(*output.preactivations[:-1], before),
        )
