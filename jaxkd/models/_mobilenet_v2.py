"""MobileNetV2 for small images, as in the distillation benchmarks."""

import functools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

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

# Groups of blocks at half width, where the stem has 16 channels.
STEM_CHANNELS, LAST_CHANNELS = 16, 1280
_CHANNELS = (8, 12, 16, 32, 48, 80, 160)
_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
_STRIDES = (1, 1, 2, 2, 1, 2, 1)
_STAGE_ENDS = (1, 2, 4, 6)  # Groups whose maps the benchmarks distill.


class InvertedResidual(nnx.Module):
    """Block that expands a map, convolves it depthwise and projects it back.

    Input and output have no activation. If stride and channels allow it, the input is
    added to the output.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Spatial stride of the depthwise convolution.
        expansion: Ratio of the channels inside the block to those of the input. The
            first 1x1 convolution exists even if it is one, as in the benchmarks.
        dtype: Dtype of the computation. Parameters and statistics are float64 if it is
            float64, otherwise float32.
        rngs: Randomness for the initial parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        expansion: int = 6,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(ConvNorm, dtype=dtype, rngs=rngs)
        inner = in_channels * expansion
        self.expand = conv(in_channels, inner, 1)
        self.depthwise = conv(inner, inner, 3, stride=stride, padding=1, groups=inner)
        self.project = conv(inner, out_channels, 1)
        self.has_skip = stride == 1 and in_channels == out_channels

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Map channels-last features."""
        y = nnx.relu(self.depthwise(nnx.relu(self.expand(x))))
        y = self.project(y)
        return x + y if self.has_skip else y

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        for i, layer in enumerate((self.expand, self.depthwise, self.project)):
            # Each is followed by an activation, which is also numbered.
            yield from layer.torch_layers(
                f"{name}.conv.{3 * i}", f"{name}.conv.{3 * i + 1}"
            )


class MobileNetV2(nnx.Module):
    r"""Inverted residual blocks, at half width, for images of 32x32 pixels.

    The network has a stem, seven groups of blocks and a last 1x1 convolution. The stem
    and three groups halve the resolution. Activations are ReLU instead of ReLU6.
    Convolutions are initialized Kaiming normal (fan-out), the classifier's weights
    normal with standard deviation 0.01 and its bias zero, as published. Images must
    have at least 8x8 pixels and may have any number of channels. For inference, use
    ``nnx.view(model, use_running_average=True)``.

    The output's ``stages`` are the maps of the stem and of the groups 2, 3, 5 and 7.
    The groups end without activation, so ``preactivations`` equal ``stages``. This is
    also true of the stem, whose map is taken *after* its activation, as published. The
    embedding is the mean of the last convolution's activations.

    Args:
        stem_channels: Channels of the stem. Those of the groups are scaled
            proportionally and rounded down. 16 is half the width of the network of
            Sandler et al., 32 its full width.
        last_channels: Channels of the last convolution, and size of the embedding.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        blocks: Numbers of blocks in the seven groups.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters,
            batch statistics and the normalization are float32. With float64 (which
            requires ``jax_enable_x64``), everything is float64.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If blocks, dtype or a number is invalid, or, when called, if
            the images have the wrong number of channels or fewer than 8x8 pixels.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.MobileNetV2(
        ...     4, 32, num_classes=10, blocks=(1,) * 7, rngs=nnx.Rngs(0)
        ... )
        >>> output = model(jnp.zeros((2, 32, 32, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 32))
        >>> [stage.shape[1:] for stage in output.stages]
        [(16, 16, 4), (16, 16, 3), (8, 8, 4), (4, 4, 12), (2, 2, 40)]

    References:
        Sandler et al., `MobileNetV2: Inverted Residuals and Linear Bottlenecks
        <https://arxiv.org/abs/1801.04381>`_, 2018, Table 2 (here with stride 1 in
        the second group, for small images).
    """

    def __init__(
        self,
        stem_channels: int = STEM_CHANNELS,
        last_channels: int = LAST_CHANNELS,
        *,
        num_classes: int,
        in_channels: int = 3,
        blocks: Sequence[int] = _BLOCKS,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(
            1,
            stem_channels=stem_channels,
            last_channels=last_channels,
            num_classes=num_classes,
            in_channels=in_channels,
        )
        check_numbers("blocks", blocks, len(_CHANNELS), "one per group")
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        conv = functools.partial(ConvNorm, dtype=dtype, rngs=rngs)
        block = functools.partial(InvertedResidual, dtype=dtype, rngs=rngs)
        self.stem = conv(in_channels, stem_channels, 3, stride=2, padding=1)
        self.groups = nnx.List()
        before = stem_channels
        for group, (base, stride) in enumerate(zip(_CHANNELS, _STRIDES, strict=True)):
            after = max(1, base * stem_channels // STEM_CHANNELS)
            expansion = 1 if group == 0 else 6
            first = block(before, after, stride=stride, expansion=expansion)
            others = [
                block(after, after, expansion=expansion)
                for _ in range(blocks[group] - 1)
            ]
            self.groups.append(nnx.List([first, *others]))
            before = after
        self.last = conv(before, last_channels, 1)
        self.classifier = linear(
            last_channels,
            num_classes,
            kernel_init=nnx.initializers.normal(0.01),
            bias_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        x = nnx.relu(self.stem(x))
        stages = [x]
        for i, blocks in enumerate(self.groups):
            for block in blocks:
                x = call_block(block, x)
            if i in _STAGE_ENDS:
                stages.append(x)
        embedding = jnp.mean(nnx.relu(self.last(x)), axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(stages)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.stem.torch_layers("conv1.0", "conv1.1")
        for i, blocks in enumerate(self.groups):
            for j, block in enumerate(blocks):
                yield from block.torch_layers(f"blocks.{i}.{j}")
        yield from self.last.torch_layers("conv2.0", "conv2.1")
        yield "classifier.0", self.classifier
