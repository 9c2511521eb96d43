"""VGG networks with batch normalization, for small images."""

import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd.models._layers import (
    ConvNorm,
    TorchLayer,
    as_feature_map,
    check_numbers,
    compute_dtype,
    linear,
)
from jaxkd.models._output import ModelOutput
from jaxkd.models._remat import call_block


class VGG(nnx.Module):
    """VGG network: five stages of 3x3 convolutions with max pooling between them.

    This is the variant of the distillation benchmarks. Batch normalization follows
    every convolution, and convolutions have biases. The classifier is a single linear
    layer after global average pooling. Max pooling before the last stage is only used
    for images of at least 64x64 pixels; the published networks omit it for CIFAR's
    32x32.

    Convolutions are initialized Kaiming normal (fan-out), the classifier normal with
    standard deviation 0.01 and all biases zero, as published. Images must have at least
    8x8 pixels and may have any number of channels. For inference, use ``nnx.view(model,
    use_running_average=True)``.

    The output's ``stages`` are the maps of the five stages before pooling. Following
    the published benchmark networks, ``preactivations[0]`` is the first stage's map
    *after* its activation, so equal to ``stages[0]``; the others are before it.

    Args:
        depths: Numbers of convolutions in the five stages.
        widths: Channels of the five stages.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters,
            batch statistics and the normalization are float32. With float64 (which
            requires ``jax_enable_x64``), everything is float64.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If depths, widths, dtype or a number is invalid, or, when
            called, if the images have the wrong number of channels or fewer than 8x8
            pixels.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.VGG(
        ...     (1, 1, 1, 1, 1), (4, 8, 16, 32, 32), num_classes=10, rngs=nnx.Rngs(0)
        ... )
        >>> model = nnx.view(model, use_running_average=True)
        >>> output = jax.eval_shape(model, jnp.zeros((2, 32, 32, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 32))
        >>> [stage.shape[1:] for stage in output.stages]
        [(32, 32, 4), (16, 16, 8), (8, 8, 16), (4, 4, 32), (4, 4, 32)]

    References:
        Simonyan & Zisserman, `Very Deep Convolutional Networks for Large-Scale Image
        Recognition <https://arxiv.org/abs/1409.1556>`_, 2015, Table 1.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int,
        in_channels: int = 3,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check_numbers("depths", depths, 5, "one for each stage")
        check_numbers("widths", widths, 5, "one for each stage")
        _checks.check_at_least(1, num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        self.stages = nnx.List()
        channels = itertools.pairwise((in_channels, *widths))
        for depth, (before, after) in zip(depths, channels, strict=True):
            layers = [
                ConvNorm(
                    before if i == 0 else after,
                    after,
                    3,
                    padding=1,
                    use_bias=True,
                    dtype=dtype,
                    rngs=rngs,
                )
                for i in range(depth)
            ]
            self.stages.append(nnx.List(layers))
        self.classifier = linear(
            widths[-1],
            num_classes,
            kernel_init=nnx.initializers.normal(0.01),
            bias_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        last_pooled = 4 if min(x.shape[1:3]) >= 64 else 3
        stages, preactivations = [], []
        for i, layers in enumerate(self.stages):
            if 0 < i <= last_pooled:
                x = nnx.max_pool(x, (2, 2), (2, 2))
            before = x
            for layer in layers:
                before = call_block(layer, x)
                x = nnx.relu(before)
            stages.append(x)
            preactivations.append(before)
        preactivations[0] = stages[0]
        embedding = jnp.mean(x, axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(preactivations)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        for i, layers in enumerate(self.stages):
            for j, layer in enumerate(layers):
                # Convolution, normalization and activation are numbered.
                yield from layer.torch_layers(
                    f"block{i}.{3 * j}", f"block{i}.{3 * j + 1}"
                )
        yield "classifier", self.classifier
