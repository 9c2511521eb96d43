"""ShuffleNetV2 for small images, as in the distillation benchmarks."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
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
    torch_uniform,
)
from jaxkd.models._output import ModelOutput
from jaxkd.models._remat import call_block

WIDTHS = (24, 116, 232, 464)
LAST_CHANNELS = 1024
_BLOCKS = (4, 8, 4)


class ShuffleUnit(nnx.Module):
    """Unit that convolves half of the channels, then shuffles all of them.

    Args:
        channels: Channels of input and output.
        dtype: Dtype of the computation. Parameters and statistics are float64 if it is
            float64, otherwise float32.
        rngs: Randomness for the initial parameters.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        half = channels // 2
        self.branch = _Branch(half, half, stride=1, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """Return the next activated features, and the features before activation.

        The latter are not shuffled, as published.
        """
        unchanged, convolved = jnp.split(x, 2, axis=-1)
        before = self.branch(convolved)
        after = _concatenate_and_shuffle(unchanged, nnx.relu(before))
        return after, jnp.concatenate([unchanged, before], -1)

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.branch.torch_layers(name, first=1)


class ShuffleDownUnit(nnx.Module):
    """Unit with two branches that halve the resolution, each with half the channels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        dtype: Dtype of the computation. Parameters and statistics are float64 if it is
            float64, otherwise float32.
        rngs: Randomness for the initial parameters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        half = out_channels // 2
        conv = functools.partial(
            ConvNorm, kernel_init=torch_uniform, dtype=dtype, rngs=rngs
        )
        self.left1 = conv(
            in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels
        )
        self.left2 = conv(in_channels, half, 1)
        self.right = _Branch(in_channels, half, stride=2, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h2 w2 c2"], Float[Array, "b h2 w2 c2"]]:
        """Return the next activated features, and the features before activation.

        The latter are not shuffled, as published.
        """
        left, right = self.left2(self.left1(x)), self.right(x)
        after = _concatenate_and_shuffle(nnx.relu(left), nnx.relu(right))
        return after, jnp.concatenate([left, right], -1)

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.left1.torch_layers(f"{name}.conv1", f"{name}.bn1")
        yield from self.left2.torch_layers(f"{name}.conv2", f"{name}.bn2")
        yield from self.right.torch_layers(name, first=3)


class _Branch(nnx.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions, without the last activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(
            ConvNorm, kernel_init=torch_uniform, dtype=dtype, rngs=rngs
        )
        self.conv1 = conv(in_channels, out_channels, 1)
        self.depthwise = conv(
            out_channels, out_channels, 3, stride=stride, padding=1, groups=out_channels
        )
        self.conv2 = conv(out_channels, out_channels, 1)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        # Unlike in ShuffleNetV1, no activation follows the depthwise convolution.
        return self.conv2(self.depthwise(nnx.relu(self.conv1(x))))

    def torch_layers(self, name: str, *, first: int) -> Iterator[TorchLayer]:
        for i, layer in enumerate((self.conv1, self.depthwise, self.conv2), first):
            yield from layer.torch_layers(f"{name}.conv{i}", f"{name}.bn{i}")


def _concatenate_and_shuffle(
    left: Float[Array, "b h w c"], right: Float[Array, "b h w c"]
) -> Float[Array, "b h w c2"]:
    return channel_shuffle(jnp.concatenate([left, right], axis=-1), groups=2)


class ShuffleNetV2(nnx.Module):
    r"""ShuffleNetV2: channel splits and shuffles, in three stages.

    The stem is a 1x1 convolution at full resolution. Each stage halves the resolution,
    and a last 1x1 convolution computes the channels of the embedding. All convolutions
    and the classifier are initialized uniform within :math:`\pm
    1/\sqrt{\text{fan-in}}`, as published. Images must have at least 8x8 pixels and may
    have any number of channels. For inference, use ``nnx.view(model,
    use_running_average=True)``.

    The output's ``stages`` are the maps of the stem and of the three stages. Following
    the published benchmark networks, ``preactivations[0]`` is the stem's map *after*
    its activation, so it equals ``stages[0]``. The others are before both the
    activation and the last shuffle: applying ReLU and interleaving the first and second
    half of the channels gives ``stages``. The embedding is the mean of the last
    convolution's activations.

    Args:
        widths: Channels of the stem and of the three stages. Those of the stages must
            be even.
        last_channels: Channels of the last convolution, and size of the embedding.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        blocks: Number of blocks in each stage, including the one that halves the
            resolution.
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
        >>> model = models.ShuffleNetV2(
        ...     (4, 8, 16, 32), 64, blocks=(2, 2, 2), num_classes=10, rngs=nnx.Rngs(0)
        ... )
        >>> output = model(jnp.zeros((2, 32, 32, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 64))
        >>> [stage.shape[1:] for stage in output.stages]
        [(32, 32, 4), (16, 16, 8), (8, 8, 16), (4, 4, 32)]

    References:
        Ma et al., `ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
        Design <https://arxiv.org/abs/1807.11164>`_, 2018, Table 5 (1x; here with a 1x1
        stem and without its pooling).
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
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
            last_channels=last_channels,
            num_classes=num_classes,
            in_channels=in_channels,
        )
        check_numbers("widths", widths, 4, "the stem's and the three stages'")
        check_numbers("blocks", blocks, 3, "one per stage")
        if any(width % 2 for width in widths[1:]):
            raise InvalidInputError(
                "widths of the three stages must be even, since the channels are split "
                f"in halves, got {tuple(widths[1:])}",
                argument="widths",
            )
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        conv = functools.partial(
            ConvNorm, kernel_init=torch_uniform, dtype=dtype, rngs=rngs
        )
        self.stem = conv(in_channels, widths[0], 1)
        self.stages = nnx.List()
        for count, (before, after) in zip(
            blocks, itertools.pairwise(widths), strict=True
        ):
            first = ShuffleDownUnit(before, after, dtype=dtype, rngs=rngs)
            others = [
                ShuffleUnit(after, dtype=dtype, rngs=rngs) for _ in range(count - 1)
            ]
            self.stages.append(nnx.List([first, *others]))
        self.last = conv(widths[-1], last_channels, 1)
        self.classifier = linear(last_channels, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        x = nnx.relu(self.stem(x))
        stages, preactivations = [x], [x]
        for blocks in self.stages:
            before = x
            for block in blocks:
                x, before = call_block(block, x)
            stages.append(x)
            preactivations.append(before)
        embedding = jnp.mean(nnx.relu(self.last(x)), axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(preactivations)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.stem.torch_layers("conv1", "bn1")
        for i, blocks in enumerate(self.stages, start=1):
            for j, block in enumerate(blocks):
                yield from block.torch_layers(f"layer{i}.{j}")
        yield from self.last.torch_layers("conv2", "bn2")
        yield "linear", self.classifier
