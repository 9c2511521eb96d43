"""Residual networks for small images, as in the distillation benchmarks."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import ArrayLike, DTypeLike, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import (
    ConvNorm,
    TorchLayer,
    as_feature_map,
    check_numbers,
    compute_dtype,
    linear,
)
from jaxkd.models._output import ModelOutput
from jaxkd.models._residual import (
    BasicBlock,
    apply_stages,
    residual_stages,
    stage_layers,
)


class CifarResNet(nnx.Module):
    r"""Residual network of depth :math:`6n + 2` with three stages of n basic blocks.

    Convolutions are initialized Kaiming normal (fan-out), the classifier uniform within
    :math:`\pm 1/\sqrt{\text{fan-in}}`, as published. Images must have at least 8x8
    pixels and may have any number of channels. For inference, use
    ``nnx.view(model, use_running_average=True)``.

    The output's ``stages`` are the stem's map and the three stages'. Following the
    published benchmark networks, ``preactivations[0]`` is the stem's map *after* its
    activation, so it equals ``stages[0]``; the others are before it.

    Args:
        depth: Number of layers with weights on the main path: 8, 14, 20, ...
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
                f"depth must be 6n + 2 (8, 14, 20, ...), got {depth}", argument="depth"
            )
        check_numbers("widths", widths, 4, "the stem's and the three stages'")
        _checks.check_at_least(1, num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.dtype = dtype = compute_dtype(dtype)
        self.stem = ConvNorm(
            in_channels, widths[0], 3, padding=1, dtype=dtype, rngs=rngs
        )
        depths = ((depth - 2) // 6,) * 3
        self.stages = residual_stages(
            BasicBlock, depths, widths, dtype=dtype, rngs=rngs
        )
        self.classifier = linear(widths[-1], num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        stages, preactivations = apply_stages(self.stages, nnx.relu(self.stem(x)))
        embedding = jnp.mean(stages[-1], axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, stages, preactivations
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.stem.torch_layers("conv1", "bn1")
        yield from stage_layers(self.stages)
        yield "fc", self.classifier
