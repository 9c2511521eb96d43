"""ShuffleNet for small images, as in the distillation benchmarks."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._channel_shuffle import channel_shuffle
from jaxkd.models._layers import (
    ConvNorm,
    TorchLayer,
    as_feature_map,
    check_numbers,
    compute_dtype,
    linear,
    parameter_dtype,
    torch_uniform,
)
from jaxkd.models._output import ModelOutput
from jaxkd.models._remat import call_block

WIDTHS = (24, 240, 480, 960)
_BLOCKS = (4, 8, 4)
_GROUPS = 3
_BOTTLENECK = 4


class ShuffleBottleneck(nnx.Module):
    """Grouped bottleneck with a channel shuffle, without the last activation.

    With stride 1, the input is added to the output. With stride 2, its average over
    3x3 pixels is appended to the output's channels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, including the appended ones.
        stride: Spatial stride: 1 if both numbers of channels are equal, or 2 if the
            output has more channels.
        groups: Groups of the last 1x1 convolution.
        first_groups: Groups of the first 1x1 convolution and of the shuffle after it.
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
        groups: int,
        first_groups: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(
            ConvNorm, kernel_init=torch_uniform, dtype=dtype, rngs=rngs
        )
        computed = out_channels if stride == 1 else out_channels - in_channels
        inner = computed // _BOTTLENECK
        self.conv1 = conv(in_channels, inner, 1, groups=first_groups)
        self.conv2 = conv(inner, inner, 3, stride=stride, padding=1, groups=inner)
        self.conv3 = conv(inner, computed, 1, groups=groups)
        self.stride, self.first_groups = stride, first_groups

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Map activated channels-last features to the next pre-activation."""
        y = nnx.relu(self.conv1(x))
        y = channel_shuffle(y, groups=self.first_groups)
        y = self.conv3(nnx.relu(self.conv2(y)))
        if self.stride == 1:
            return y + x
        return jnp.concatenate([y, halving_average(x)], axis=-1)

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        for i, layer in enumerate((self.conv1, self.conv2, self.conv3), start=1):
            yield from layer.torch_layers(f"{name}.conv{i}", f"{name}.bn{i}")


def halving_average(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Average over 3x3 pixels with stride 2; pixels beyond the border are zero."""
    wide = x.astype(parameter_dtype(x.dtype))  # Sums in bfloat16 are inaccurate.
    sums = jax.lax.reduce_window(
        wide,
        np.zeros((), wide.dtype),
        jax.lax.add,
        (1, 3, 3, 1),
        (1, 2, 2, 1),
        ((0, 0), (1, 1), (1, 1), (0, 0)),
    )
    return (sums / 9).astype(x.dtype)


class ShuffleNetV1(nnx.Module):
    r"""ShuffleNet: grouped 1x1 convolutions and channel shuffles, in three stages.

    The stem is a 1x1 convolution at full resolution. Each stage halves the resolution.
    All convolutions and the classifier are initialized uniform within
    :math:`\pm 1/\sqrt{\text{fan-in}}`, as published. Images must have at least 8x8
    pixels and may have any number of channels. For inference, use
    ``nnx.view(model, use_running_average=True)``.

    The output's ``stages`` are the maps of the stem and of the three stages. Following
    the published benchmark networks, ``preactivations[0]`` is the stem's map *after*
    its activation, so equal to ``stages[0]``; the others are before it.

    Args:
        widths: Channels of the stem and of the three stages. The numbers of channels
            that a stage's blocks compute (``widths[1] - widths[0]``, ``widths[1]`` and
            so on) must be multiples of ``4 * groups``.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        blocks: Number of blocks in each stage.
        groups: Groups of the 1x1 convolutions, except the first one on the stem's map.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters,
            batch statistics and the normalization are float32. With float64 (which
            requires ``jax_enable_x64``), everything is float64.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If widths, blocks, dtype or a number is invalid, or, when
            called, if the images have the wrong number of channels or fewer than 8x8
            pixels.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.ShuffleNetV1(
        ...     (8, 16, 24, 32), blocks=(1, 1, 1), groups=2, num_classes=10,
        ...     rngs=nnx.Rngs(0),
        ... )
        >>> output = model(jnp.zeros((2, 32, 32, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 32))
        >>> [stage.shape[1:] for stage in output.stages]
        [(32, 32, 8), (16, 16, 16), (8, 8, 24), (4, 4, 32)]

    References:
        Zhang et al., `ShuffleNet: An Extremely Efficient Convolutional Neural Network
        for Mobile Devices <https://arxiv.org/abs/1707.01083>`_, 2018, Table 1 (3
        groups; here with a 1x1 stem, without its pooling, and with an activation after
        the depthwise convolutions).
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        *,
        num_classes: int,
        in_channels: int = 3,
        blocks: Sequence[int] = _BLOCKS,
        groups: int = _GROUPS,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(
            1,
            num_classes=num_classes,
            in_channels=in_channels,
            groups=groups,
        )
        check_numbers("widths", widths, 4, "the stem's and the three stages'")
        check_numbers("blocks", blocks, 3, "one per stage")
        _check_divisible(widths, groups)
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        self.stem = ConvNorm(
            in_channels,
            widths[0],
            1,
            kernel_init=torch_uniform,
            dtype=dtype,
            rngs=rngs,
        )
        self.stages = nnx.List()
        block = functools.partial(
            ShuffleBottleneck, groups=groups, dtype=dtype, rngs=rngs
        )
        for stage, (before, after) in enumerate(itertools.pairwise(widths)):
            # The stem's map has too few channels for groups.
            first_groups = 1 if stage == 0 else groups
            first = block(before, after, stride=2, first_groups=first_groups)
            others = [
                block(after, after, first_groups=groups)
                for _ in range(blocks[stage] - 1)
            ]
            self.stages.append(nnx.List([first, *others]))
        self.classifier = linear(widths[-1], num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        x = nnx.relu(self.stem(x))
        stages, preactivations = [x], [x]
        for blocks in self.stages:
            before = x
            for block in blocks:
                before = call_block(block, x)
                x = nnx.relu(before)
            stages.append(x)
            preactivations.append(before)
        embedding = jnp.mean(x, axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(preactivations)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.stem.torch_layers("conv1", "bn1")
        for i, blocks in enumerate(self.stages, start=1):
            for j, block in enumerate(blocks):
                yield from block.torch_layers(f"layer{i}.{j}")
        yield "linear", self.classifier


def _check_divisible(widths: Sequence[int], groups: int) -> None:
    divisor = _BOTTLENECK * groups
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        if after <= before or after % divisor or (after - before) % divisor:
            raise InvalidInputError(
                f"widths[{i + 1}] and its difference to widths[{i}] must be positive "
                f"multiples of 4 * groups = {divisor}, got {after} and {before}",
                argument="widths",
            )
