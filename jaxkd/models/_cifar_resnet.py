"""Residual networks for small images, as the distillation benchmarks use them."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import (
    ConvNorm,
    TorchLayer,
    as_images,
    check_image_size,
    compute_dtype,
    linear,
)
from jaxkd.models._output import ModelOutput

SMALLEST_IMAGE = 8  # Three resolutions: 8x8 becomes 2x2 in the last stage.


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a skip connection, before the last activation.

    The skip is the identity where shapes allow, else a strided 1x1 convolution
    (option B of `He et al. <https://arxiv.org/abs/1512.03385>`_, 2016, Sec. 3.3).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Spatial stride of the first convolution.
        dtype: Dtype of the computation; parameters and statistics are float64 with
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
        """Maps activated channels-last features to the next pre-activation."""
        residual = x if self.skip is None else self.skip(x)
        return self.conv2(nnx.relu(self.conv1(x))) + residual

    def torch_layers(self, name: str) -> Iterator[TorchLayer]:
        """The layers by their names in the published checkpoints, in their order."""
        yield from self.conv1.torch_layers(f"{name}.conv1", f"{name}.bn1")
        yield from self.conv2.torch_layers(f"{name}.conv2", f"{name}.bn2")
        if self.skip is not None:
            skip = f"{name}.downsample"
            yield from self.skip.torch_layers(f"{skip}.0", f"{skip}.1")


class CifarResNet(nnx.Module):
    r"""Residual network of depth :math:`6n + 2` with three stages of n basic blocks.

    Convolutions start Kaiming normal (fan-out), the classifier uniform within
    :math:`\pm 1/\sqrt{\text{fan-in}}`, as published. Any image of at least 8x8 pixels
    and any number of channels will do. Evaluate through
    ``nnx.view(model, use_running_average=True)``.

    The output's ``stages`` are the stem's map and the three stages'. Following the
    published benchmark networks, ``preactivations[0]`` is the stem's map *after* its
    activation, so equal to ``stages[0]``; the others are before it.

    Args:
        depth: Number of layers with weights on the main path: 8, 14, 20, ...
        widths: Channels of the stem and of the three stages.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        dtype: Dtype of the computation and of the output, float32 if None. Parameters,
            batch statistics and the normalisation itself are float32 all the same,
            except that with float64 (which takes ``jax_enable_x64``) all is float64.
        rngs: Randomness for the initial parameters.

    Raises:
        InvalidInputError: If depth, widths, dtype or a number is unusable, and when
            called, if the images have the wrong number of channels or fewer than 8x8
            pixels.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.CifarResNet(
        ...     8, (4, 4, 8, 16), num_classes=10, rngs=nnx.Rngs(0)
        ... )
        >>> output = model(jnp.zeros((2, 32, 32, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 16))
        >>> [stage.shape for stage in output.stages]
        [(2, 32, 32, 4), (2, 32, 32, 4), (2, 16, 16, 8), (2, 8, 8, 16)]

    References:
        He et al., `Deep Residual Learning for Image Recognition
        <https://arxiv.org/abs/1512.03385>`_, 2016, Sec. 4.2 (with projections in place
        of zero padding on the skips).
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
        _checks.check_at_least(8, depth=depth)
        if (depth - 2) % 6:
            raise InvalidInputError(
                f"depth must be 6n + 2 (8, 14, 20, ...), got {depth}"
            )
        if len(widths) != 4:
            raise InvalidInputError(
                "widths must hold four numbers, the stem's and the three stages', "
                f"got {tuple(widths)}"
            )
        _checks.check_at_least(
            1,
            num_classes=num_classes,
            in_channels=in_channels,
            **{f"widths[{i}]": width for i, width in enumerate(widths)},
        )
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        self.stem = ConvNorm(
            in_channels, widths[0], 3, padding=1, dtype=dtype, rngs=rngs
        )
        self.stages = nnx.List()
        for stage, (before, after) in enumerate(itertools.pairwise(widths)):
            block = functools.partial(BasicBlock, dtype=dtype, rngs=rngs)
            first = block(before, after, stride=1 if stage == 0 else 2)
            others = [block(after, after) for _ in range((depth - 2) // 6 - 1)]
            self.stages.append(nnx.List([first, *others]))
        self.classifier = linear(widths[-1], num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classifies normalised channels-last images."""
        x = as_images(images, self.dtype)
        if x.ndim != 4 or x.shape[-1] != self.in_channels:
            raise InvalidInputError(
                f"images must be [batch, height, width, {self.in_channels}], "
                f"got {x.shape}"
            )
        check_image_size(*x.shape[1:3], smallest=SMALLEST_IMAGE)
        x = nnx.relu(self.stem(x))
        stages, preactivations = [x], [x]
        for blocks in self.stages:
            before = x
            for block in blocks:
                before = block(x)
                x = nnx.relu(before)
            stages.append(x)
            preactivations.append(before)
        embedding = jnp.mean(x, axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, tuple(stages), tuple(preactivations)
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """The layers by their names in the published checkpoints, in their order."""
        yield from self.stem.torch_layers("conv1", "bn1")
        for i, blocks in enumerate(self.stages, start=1):
            for j, block in enumerate(blocks):
                yield from block.torch_layers(f"layer{i}.{j}")
        yield "fc", self.classifier
