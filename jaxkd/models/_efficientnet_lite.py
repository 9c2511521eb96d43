"""EfficientNet-Lite0, a small network for ImageNet."""

import functools
import itertools
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

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
_CHANNELS = (16, 24, 40, 80, 112, 192, 320)
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_KERNELS = (3, 3, 5, 3, 5, 5, 3)
_STAGE_ENDS = (1, 2, 4, 6)  # The last groups of their resolutions.
_EPSILON = 1e-3  # Of the batch normalizations, as published.

# Each channel of a depthwise convolution is scaled as a convolution of its own.
_depthwise_normal = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
# Uniform within ±1/sqrt(classes), as published.
_classifier_uniform = nnx.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class MBConv(nnx.Module):
    """Block that expands a map, convolves it depthwise and projects it back.

    It differs from :class:`InvertedResidual` in its activations, which are ReLU6, its
    padding, which is TensorFlow's ("SAME"), and its first 1x1 convolution, which is
    absent if the expansion is one. There is no squeeze-and-excitation. Input and output
    have no activation. If stride and channels allow it, the input is added to the
    output.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the depthwise kernel.
        stride: Spatial stride of the depthwise convolution.
        expansion: Ratio of the channels inside the block to those of the input.
        dtype: Dtype of the computation. Parameters and statistics are float64 if it is
            float64, otherwise float32.
        rngs: Randomness for the initial parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        expansion: int = 6,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(ConvNorm, epsilon=_EPSILON, dtype=dtype, rngs=rngs)
        inner = in_channels * expansion
        self.expand = None if expansion == 1 else conv(in_channels, inner, 1)
        self.depthwise = conv(
            inner,
            inner,
            kernel_size,
            stride=stride,
            padding="SAME",
            groups=inner,
            kernel_init=_depthwise_normal,
        )
        self.project = conv(inner, out_channels, 1)
        self.has_skip = stride == 1 and in_channels == out_channels

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Map channels-last features."""
        y = x if self.expand is None else nnx.relu6(self.expand(x))
        y = self.project(nnx.relu6(self.depthwise(y)))
        return x + y if self.has_skip else y

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoint, in order."""
        if self.expand is not None:
            yield from self.expand.torch_layers(f"{name}._expand_conv", f"{name}._bn0")
        yield from self.depthwise.torch_layers(
            f"{name}._depthwise_conv", f"{name}._bn1"
        )
        yield from self.project.torch_layers(f"{name}._project_conv", f"{name}._bn2")


class EfficientNetLite(nnx.Module):
    r"""EfficientNet-Lite0: blocks without squeeze-and-excitation, and ReLU6.

    The network has a stem, seven groups of blocks (:class:`MBConv`) and a last 1x1
    convolution. The stem and four groups halve the resolution. Convolutions are padded
    as in TensorFlow, where the network was published, and batch normalizations add 1e-3
    to the variance. Convolutions are initialized Kaiming normal (fan-out; depthwise
    ones for each channel alone), the classifier's weights uniform within
    :math:`\pm 1/\sqrt{\text{classes}}` and its bias zero, as published. There is
    neither dropout nor stochastic depth, and the statistics have momentum 0.9, as in
    jaxkd's other networks. Images must have at least 8x8 pixels and may have any number
    of channels; those of the published weights have 224x224. For inference, use
    ``nnx.view(model, use_running_average=True)``.

    The output's ``stages`` are the maps of the stem and of the groups 2, 3, 5 and 7.
    The groups end without activation, so ``preactivations`` equal ``stages``. This is
    also true of the stem, whose map is taken *after* its activation, as in
    :class:`MobileNetV2`. The embedding is the mean of the last convolution's
    activations.

    Args:
        stem_channels: Channels of the stem. Those of the groups are scaled
            proportionally and rounded down.
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
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.EfficientNetLite(
        ...     4, 32, num_classes=10, blocks=(1,) * 7, rngs=nnx.Rngs(0)
        ... )
        >>> model = nnx.view(model, use_running_average=True)
        >>> output = jax.eval_shape(model, jnp.zeros((2, 224, 224, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 32))
        >>> [stage.shape[1:] for stage in output.stages]
        [(112, 112, 4), (56, 56, 3), (28, 28, 5), (14, 14, 14), (7, 7, 40)]

    References:
        Tan and Le, `EfficientNet: Rethinking Model Scaling for Convolutional Neural
        Networks <https://arxiv.org/abs/1905.11946>`_, 2019, Table 1; Liu,
        `Higher Accuracy on Vision Models with EfficientNet-Lite
        <https://blog.tensorflow.org/2020/03/
        higher-accuracy-on-vision-models-with-efficientnet-lite.html>`_, 2020.
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
        conv = functools.partial(ConvNorm, epsilon=_EPSILON, dtype=dtype, rngs=rngs)
        self.stem = conv(in_channels, stem_channels, 3, stride=2, padding="SAME")
        self.groups = nnx.List()
        before = stem_channels
        for group, (base, stride, size) in enumerate(
            zip(_CHANNELS, _STRIDES, _KERNELS, strict=True)
        ):
            after = max(1, base * stem_channels // STEM_CHANNELS)
            block = functools.partial(
                MBConv,
                kernel_size=size,
                expansion=1 if group == 0 else 6,
                dtype=dtype,
                rngs=rngs,
            )
            first = block(before, after, stride=stride)
            others = [block(after, after) for _ in range(blocks[group] - 1)]
            self.groups.append(nnx.List([first, *others]))
            before = after
        self.last = conv(before, last_channels, 1)
        self.classifier = linear(
            last_channels,
            num_classes,
            kernel_init=_classifier_uniform,
            bias_init=nnx.initializers.zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        x = nnx.relu6(self.stem(x))
        stages = [x]
        for i, blocks in enumerate(self.groups):
            for block in blocks:
                x = call_block(block, x)
            if i in _STAGE_ENDS:
                stages.append(x)
        embedding = jnp.mean(nnx.relu6(self.last(x)), axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(stages)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoint, in order."""
        yield from self.stem.torch_layers("_conv_stem", "_bn0")
        for i, block in enumerate(itertools.chain.from_iterable(self.groups)):
            yield from block.torch_layers(f"_blocks.{i}")
        yield from self.last.torch_layers("_conv_head", "_bn1")
        yield "_fc", self.classifier
