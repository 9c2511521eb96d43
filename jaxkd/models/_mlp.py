"""Multilayer perceptron, the simplest network."""

import itertools
import math
from collections.abc import Sequence

from flax import nnx
from jaxtyping import ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import as_images, compute_dtype, linear
from jaxkd.models._output import ModelOutput
from jaxkd.models._remat import call_block


class MLP(nnx.Module):
    r"""Linear layers with ReLU on flattened inputs.

    Weights and biases are initialized uniform within
    :math:`\pm 1/\sqrt{\text{fan-in}}`. The embedding is the last hidden layer (the
    flattened input if there is none). ``stages`` is empty, because hidden layers are
    vectors and not feature maps.

    Args:
        in_features: Values per example: height · width · channels.
        hidden: Sizes of the hidden layers; empty for a linear classifier.
        num_classes: Number of logits.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters
            are float64 if it is float64 (which requires ``jax_enable_x64``), otherwise
            float32.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If a size or dtype is invalid, or, when called, if an example
            does not have ``in_features`` values.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.MLP(64, (32,), num_classes=10, rngs=nnx.Rngs(0))
        >>> output = model(jnp.zeros((2, 8, 8, 1)))
        >>> output.logits.shape, output.embedding.shape, output.stages
        ((2, 10), (2, 32), ())
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        *,
        num_classes: int,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(
            1,
            in_features=in_features,
            num_classes=num_classes,
            **{f"hidden[{i}]": size for i, size in enumerate(hidden)},
        )
        self.in_features = in_features
        self.dtype = dtype = compute_dtype(dtype)
        sizes = (in_features, *hidden)
        self.layers = nnx.List(
            linear(before, after, dtype=dtype, rngs=rngs)
            for before, after in itertools.pairwise(sizes)
        )
        self.classifier = linear(sizes[-1], num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[ArrayLike, "b ..."]) -> ModelOutput:
        """Classify normalized images, or vectors, of any shape."""
        x = as_images(images, self.dtype)
        if math.prod(x.shape[1:]) != self.in_features:
            raise InvalidInputError(
                f"images must have {self.in_features} values per example, "
                f"got shape {x.shape}",
                argument="images",
            )
        x = x.reshape(x.shape[0], self.in_features)
        for layer in self.layers:
            x = nnx.relu(call_block(layer, x))
        return ModelOutput(self.classifier(x), x)
