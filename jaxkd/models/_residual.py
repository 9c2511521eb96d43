"""Residual blocks, and stages of residual blocks with activations between them."""

import functools
import itertools
from collections.abc import Iterator, Sequence

from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import ConvNorm, TorchLayer
from jaxkd.models._remat import call_block


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a skip connection, without the last activation.

    The skip is the identity if the shapes agree, otherwise a strided 1x1 convolution
    (option B of `He et al. <https://arxiv.org/abs/1512.03385>`_, 2016, Sec. 3.3).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Spatial stride of the first convolution.
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
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(ConvNorm, dtype=dtype, rngs=rngs)
        self.conv1 = conv(in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1)
        if stride == 1 and in_channels == out_channels:
            self.skip = None
        else:
            self.skip = conv(in_channels, out_channels, 1, stride=stride)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Map activated channels-last features to the next pre-activation."""
        residual = x if self.skip is None else self.skip(x)
        return self.conv2(nnx.relu(self.conv1(x))) + residual

    def torch_layers(self, name: str, skip: str = "downsample") -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.conv1.torch_layers(f"{name}.conv1", f"{name}.bn1")
        yield from self.conv2.torch_layers(f"{name}.conv2", f"{name}.bn2")
        if self.skip is not None:
            yield from self.skip.torch_layers(f"{name}.{skip}.0", f"{name}.{skip}.1")


class Bottleneck(nnx.Module):
    """3x3 convolution between two 1x1 convolutions, and a skip connection.

    The block does not include the last activation. The 3x3 convolution has a quarter of
    the output's channels. It also has the stride, as in the published PyTorch networks
    (in `He et al. <https://arxiv.org/abs/1512.03385>`_, 2016, Sec. 4.1, the first 1x1
    convolution has it). The skip is as in :class:`BasicBlock`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, a multiple of 4.
        stride: Spatial stride of the 3x3 convolution.
        dtype: Dtype of the computation. Parameters and statistics are float64 if it is
            float64, otherwise float32.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If ``out_channels`` is not a multiple of 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        if out_channels % 4:
            raise InvalidInputError(
                f"out_channels of a bottleneck must be a multiple of 4, "
                f"got {out_channels}",
                argument="out_channels",
            )
        conv = functools.partial(ConvNorm, dtype=dtype, rngs=rngs)
        narrow = out_channels // 4
        self.conv1 = conv(in_channels, narrow, 1)
        self.conv2 = conv(narrow, narrow, 3, stride=stride, padding=1)
        self.conv3 = conv(narrow, out_channels, 1)
        if stride == 1 and in_channels == out_channels:
            self.skip = None
        else:
            self.skip = conv(in_channels, out_channels, 1, stride=stride)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Map activated channels-last features to the next pre-activation."""
        residual = x if self.skip is None else self.skip(x)
        return self.conv3(nnx.relu(self.conv2(nnx.relu(self.conv1(x))))) + residual

    def torch_layers(self, name: str, skip: str = "downsample") -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.conv1.torch_layers(f"{name}.conv1", f"{name}.bn1")
        yield from self.conv2.torch_layers(f"{name}.conv2", f"{name}.bn2")
        yield from self.conv3.torch_layers(f"{name}.conv3", f"{name}.bn3")
        if self.skip is not None:
            yield from self.skip.torch_layers(f"{name}.{skip}.0", f"{name}.{skip}.1")


Block = BasicBlock | Bottleneck
Stages = Sequence[Sequence[Block]]
FeatureMaps = tuple[Float[Array, "batch ..."], ...]


def residual_stages(
    block: type[Block],
    depths: Sequence[int],
    widths: Sequence[int],
    *,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> Stages:
    """Build a list of blocks per stage; all but the first stage halve the resolution.

    Args:
        block: Class of the blocks.
        depths: Number of blocks in each stage.
        widths: Channels before the stages and after each of them.
        dtype: Dtype of the computation.
        rngs: Randomness for the initial parameters.
    """
    make = functools.partial(block, dtype=dtype, rngs=rngs)
    stages = nnx.List()
    channels = itertools.pairwise(widths)
    for stage, (depth, (before, after)) in enumerate(
        zip(depths, channels, strict=True)
    ):
        first = make(before, after, stride=1 if stage == 0 else 2)
        others = [make(after, after) for _ in range(depth - 1)]
        stages.append(nnx.List([first, *others]))
    return stages


def apply_stages(
    stages: Stages, x: Float[Array, "b h w c"]
) -> tuple[FeatureMaps, FeatureMaps]:
    """Return the stages' maps after and before activation; both begin with ``x``."""
    activated, preactivations = [x], [x]
    for blocks in stages:
        before = x
        for block in blocks:
            before = call_block(block, x)
            x = nnx.relu(before)
        activated.append(x)
        preactivations.append(before)
    return tuple(activated), tuple(preactivations)


def stage_layers(stages: Stages, skip: str = "downsample") -> Iterator[TorchLayer]:
    """Yield the stages' layers with their published names.

    ``skip`` is the published name of skip connections.
    """
    for i, blocks in enumerate(stages, start=1):
        for j, block in enumerate(blocks):
            yield from block.torch_layers(f"layer{i}.{j}", skip)
