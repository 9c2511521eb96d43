"""Wide residual networks of pre-activation blocks, for small images."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import (
    BatchNorm,
    ConvNorm,
    TorchLayer,
    as_feature_map,
    check_numbers,
    compute_dtype,
    convolution,
    linear,
)
from jaxkd.models._output import ModelOutput
from jaxkd.models._remat import call_block


class PreActivationBlock(nnx.Module):
    """Two 3x3 convolutions, each after normalization and activation, and a skip.

    The skip is the identity if the shapes agree, otherwise a strided 1x1 convolution of
    the normalized and activated input.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Spatial stride of the first convolution.
        dtype: Dtype of the computation. Parameters and statistics are float64 if it is
            float64, otherwise float32.
        rngs: Randomness for the initial parameters.

    References:
        He et al., `Identity Mappings in Deep Residual Networks
        <https://arxiv.org/abs/1603.05027>`_, 2016, Fig. 1(b).
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
        settings = {"dtype": dtype, "rngs": rngs}
        self.norm = BatchNorm(in_channels, **settings)
        self.conv1 = ConvNorm(
            in_channels, out_channels, 3, stride=stride, padding=1, **settings
        )
        self.conv2 = convolution(out_channels, out_channels, 3, padding=1, **settings)
        if stride == 1 and in_channels == out_channels:
            self.skip = None
        else:
            self.skip = convolution(
                in_channels, out_channels, 1, stride=stride, **settings
            )

    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h2 w2 c2"], Float[Array, "b h w c"]]:
        """Return the next features before activation, and the normalized input."""
        normalized = self.norm(x)
        activated = nnx.relu(normalized)
        residual = x if self.skip is None else self.skip(activated)
        return self.conv2(nnx.relu(self.conv1(activated))) + residual, normalized

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield f"{name}.bn1", self.norm
        yield from self.conv1.torch_layers(f"{name}.conv1", f"{name}.bn2")
        yield f"{name}.conv2", self.conv2
        if self.skip is not None:
            yield f"{name}.convShortcut", self.skip


class WideResNet(nnx.Module):
    r"""Wide residual network of depth :math:`6n + 4`: three stages of n blocks.

    Convolutions are initialized Kaiming normal (fan-out), the classifier uniform within
    :math:`\pm 1/\sqrt{\text{fan-in}}` with zero bias, as published. There is no
    dropout, as in the distillation benchmarks. Images must have at least 8x8 pixels and
    may have any number of channels. For inference, use ``nnx.view(model,
    use_running_average=True)``.

    The blocks of this network begin with normalization and activation. Following the
    published benchmark networks, the output's ``stages`` are the outputs of the stem
    and of the three stages, without activation. ``preactivations`` are the same maps
    after the next normalization, that is, the inputs of the next activation. The stem's
    map is an exception: ``preactivations[0]`` is not normalized and equals
    ``stages[0]``. The embedding is the mean of ``preactivations[-1]`` after ReLU.

    Args:
        depth: Number of layers with weights: 10, 16, 22, ...
        widths: Channels of the stem and of the three stages.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters,
            batch statistics and the normalization are float32. With float64 (which
            requires ``jax_enable_x64``), everything is float64.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If depth, widths, dtype or a number is invalid, or, when
            called, if the images have the wrong number of channels or fewer than 8x8
            pixels.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.WideResNet(
        ...     10, (4, 8, 16, 32), num_classes=10, rngs=nnx.Rngs(0)
        ... )
        >>> model = nnx.view(model, use_running_average=True)
        >>> output = jax.eval_shape(model, jnp.zeros((2, 32, 32, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 32))
        >>> [stage.shape[1:] for stage in output.stages]
        [(32, 32, 4), (32, 32, 8), (16, 16, 16), (8, 8, 32)]

    References:
        Zagoruyko & Komodakis, `Wide Residual Networks
        <https://arxiv.org/abs/1605.07146>`_, 2016, Table 1.
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[int],
        *,
        num_classes: int,
        in_channels: int = 3,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        _checks.check_at_least(10, depth=depth)
        if (depth - 4) % 6:
            raise InvalidInputError(
                f"depth must be 6n + 4 (10, 16, 22, ...), got {depth}", argument="depth"
            )
        check_numbers("widths", widths, 4, "the stem's and the three stages'")
        _checks.check_at_least(1, num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        settings = {"dtype": dtype, "rngs": rngs}
        # No normalization, since the skip of the first block may be the identity.
        self.stem = convolution(in_channels, widths[0], 3, padding=1, **settings)
        self.stages = nnx.List()
        for stage, (before, after) in enumerate(itertools.pairwise(widths)):
            block = functools.partial(PreActivationBlock, **settings)
            first = block(before, after, stride=1 if stage == 0 else 2)
            others = [block(after, after) for _ in range((depth - 4) // 6 - 1)]
            self.stages.append(nnx.List([first, *others]))
        self.norm = BatchNorm(widths[-1], **settings)
        self.classifier = linear(
            widths[-1], num_classes, bias_init=nnx.initializers.zeros, **settings
        )

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = self.stem(as_feature_map(images, self.in_channels, dtype=self.dtype))
        stages, preactivations = [x], []
        for first, *others in self.stages:
            x, normalized = call_block(first, x)
            preactivations.append(normalized)
            for block in others:
                x = call_block(block, x)[0]
            stages.append(x)
        preactivations.append(self.norm(x))
        preactivations[0] = stages[0]
        embedding = jnp.mean(nnx.relu(preactivations[-1]), axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(preactivations)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield "conv1", self.stem
        for i, blocks in enumerate(self.stages, start=1):
            for j, block in enumerate(blocks):
                yield from block.torch_layers(f"block{i}.layer.{j}")
        yield "bn1", self.norm
        yield "fc", self.classifier
