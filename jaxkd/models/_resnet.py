"""Residual networks with four stages, for large images and for small ones."""

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
from jaxkd.models._residual import (
    Block,
    apply_stages,
    residual_stages,
    stage_layers,
)


class ResNet(nnx.Module):
    r"""Residual network with four stages of basic or bottleneck blocks.

    For large images (ImageNet), the stem is a 7x7 convolution and a 3x3 max pooling,
    both with stride 2. For small images (CIFAR), it is a 3x3 convolution that keeps the
    resolution. Convolutions are initialized Kaiming normal (fan-out), the classifier
    uniform within :math:`\pm 1/\sqrt{\text{fan-in}}`, as published. Images must have at
    least 8x8 pixels and may have any number of channels. For inference, use
    ``nnx.view(model, use_running_average=True)``.

    The output's ``stages`` are the stem's map (after the pooling) and the four stages'.
    Following the published benchmark networks, ``preactivations[0]`` is the stem's map
    *after* its activation, so equal to ``stages[0]``; the others are before it.

    Args:
        block: :class:`BasicBlock` (resnet18, resnet34) or :class:`Bottleneck`
            (resnet50).
        depths: Numbers of blocks in the four stages.
        widths: Channels of the stem and of the four stages. With bottlenecks, those of
            the stages must be multiples of 4.
        small_images: Whether the stem keeps the resolution. It also determines the
            published names: skips and classifier are called ``downsample`` and ``fc``
            in networks for large images, ``shortcut`` and ``linear`` in those for small
            images.
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
        >>> model = models.ResNet(
        ...     models.Bottleneck, (1, 1, 1, 1), (4, 8, 16, 32, 64),
        ...     small_images=False, num_classes=10, rngs=nnx.Rngs(0),
        ... )
        >>> model = nnx.view(model, use_running_average=True)
        >>> output = jax.eval_shape(model, jnp.zeros((2, 224, 224, 3)))
        >>> output.logits.shape, output.embedding.shape
        ((2, 10), (2, 64))
        >>> [stage.shape[1:] for stage in output.stages]
        [(56, 56, 4), (56, 56, 8), (28, 28, 16), (14, 14, 32), (7, 7, 64)]

    References:
        He et al., `Deep Residual Learning for Image Recognition
        <https://arxiv.org/abs/1512.03385>`_, 2016, Table 1.
    """

    def __init__(
        self,
        block: type[Block],
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        small_images: bool,
        num_classes: int,
        in_channels: int = 3,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check_numbers("depths", depths, 4, "one for each stage")
        check_numbers("widths", widths, 5, "the stem's and the four stages'")
        _checks.check_at_least(1, num_classes=num_classes, in_channels=in_channels)
        self.in_channels = in_channels
        self.small_images = small_images
        self.dtype = dtype = compute_dtype(dtype)
        size, stride = (3, 1) if small_images else (7, 2)
        self.stem = ConvNorm(
            in_channels,
            widths[0],
            size,
            stride=stride,
            padding=size // 2,
            dtype=dtype,
            rngs=rngs,
        )
        self.stages = residual_stages(block, depths, widths, dtype=dtype, rngs=rngs)
        self.classifier = linear(widths[-1], num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[ArrayLike, "b h w c"]) -> ModelOutput:
        """Classify normalized channels-last images."""
        x = as_feature_map(images, self.in_channels, dtype=self.dtype)
        x = nnx.relu(self.stem(x))
        if not self.small_images:
            # Activations are not negative, so padding with zeros is correct.
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = nnx.max_pool(x, (3, 3), (2, 2))
        stages, preactivations = apply_stages(self.stages, x)
        embedding = jnp.mean(stages[-1], axis=(1, 2))
        return ModelOutput(
            self.classifier(embedding), embedding, stages, preactivations
        )

    def torch_layers(self) -> Iterator[TorchLayer]:
        """Yield the layers with their names in the published checkpoints, in order."""
        yield from self.stem.torch_layers("conv1", "bn1")
        skip, classifier = (
            ("shortcut", "linear") if self.small_images else ("downsample", "fc")
        )
        yield from stage_layers(self.stages, skip)
        yield classifier, self.classifier
