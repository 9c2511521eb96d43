"""Student that predicts with its teacher's classifier."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import ConvNorm, parameter_dtype
from jaxkd.models._mode import mode_arguments
from jaxkd.models._output import ModelOutput

_REDUCTION = 2  # Of the channels inside the projector, as published.


class ReusedClassifier(nnx.Module):
    r"""Network whose last feature map is projected for another network's classifier.

    The projector consists of three convolutions (1x1, 3x3, 1x1), each followed by batch
    normalization and ReLU, with half the channels inside. Its output has the shape of
    the teacher's last map, and its mean over positions is the input of the teacher's
    linear classifier. The classifier is not trained: it is not an ``nnx.Param``, so
    optimizers ignore it. It is part of the network's state, and therefore of
    checkpoints and exports.

    The output is that of the network, with three replacements: the last map of
    ``stages`` and ``preactivations`` is the projected one, the embedding is its mean,
    and the logits are those of the teacher's classifier. The network's own classifier
    is not used.

    Args:
        network: Network that returns a :class:`ModelOutput` with feature maps.
        in_channels: Channels of its last feature map.
        kernel: Kernel of the teacher's classifier, features by classes.
        bias: Bias of the teacher's classifier.
        dtype: Dtype of the projector's computation; parameters are at least float32.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If the shapes do not match, or, when called, if the network
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
                f"{kernel.shape} and {bias.shape}",
                argument="kernel",
            )
        features = kernel.shape[0]
        _checks.check_at_least(1, in_channels=in_channels)
        hidden = max(1, features // _REDUCTION)
        self.features = features
        self.network = network
        self.inference = False  # Set on views for inference.
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
        arguments = mode_arguments(self.network, train=not self.inference)
        output = self.network(images, **arguments)
        if not output.stages:
            raise InvalidInputError(
                "network must return feature maps in 'stages', since the last one is "
                f"projected; {type(self.network).__name__} returns none",
                argument="network",
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
