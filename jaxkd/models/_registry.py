"""Networks by name. To add a network, add a file and a row of ``_MODELS``."""

import functools
import math
from collections.abc import Callable, Sequence

from flax import nnx
from jaxtyping import DTypeLike

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd.models import (
    _efficientnet_lite,
    _mobilenet_v2,
    _shufflenet_v1,
    _shufflenet_v2,
    _vit,
)
from jaxkd.models._cifar_resnet import CifarResNet
from jaxkd.models._layers import SMALLEST_IMAGE, check_image_size
from jaxkd.models._mlp import MLP
from jaxkd.models._residual import BasicBlock, Block, Bottleneck
from jaxkd.models._resnet import ResNet
from jaxkd.models._vgg import VGG
from jaxkd.models._wide_resnet import WideResNet

ImageShape = tuple[int, int, int]

# Called with num_classes, image_shape, width, dtype and rngs by keyword.
_Constructor = Callable[..., nnx.Module]


def _staged(network: Callable[..., nnx.Module], widths: Sequence[int]) -> _Constructor:
    """Return a builder of a network with these widths; ``width`` scales all widths."""

    def construct(*, num_classes, image_shape, width, dtype, rngs):
        check_image_size(*image_shape[:2], smallest=SMALLEST_IMAGE)
        first = widths[0] if width is None else width
        return network(
            tuple(channels * first // widths[0] for channels in widths),
            num_classes=num_classes,
            in_channels=image_shape[-1],
            dtype=dtype,
            rngs=rngs,
        )

    return construct


def _cifar_resnet(depth: int, widths: Sequence[int]) -> _Constructor:
    return _staged(functools.partial(CifarResNet, depth), widths)


def _resnet(
    block: type[Block], depths: Sequence[int], *, small_images: bool = False
) -> _Constructor:
    expansion = 4 if block is Bottleneck else 1
    widths = (64, *(expansion * channels for channels in (64, 128, 256, 512)))
    network = functools.partial(ResNet, block, depths, small_images=small_images)
    return _staged(network, widths)


def _wide_resnet(depth: int, factor: int) -> _Constructor:
    widths = (16, 16 * factor, 32 * factor, 64 * factor)
    return _staged(functools.partial(WideResNet, depth), widths)


def _vgg(*depths: int) -> _Constructor:
    return _staged(functools.partial(VGG, depths), (64, 128, 256, 512, 512))


def _mlp(hidden_layers: int, size: int) -> _Constructor:
    def construct(*, num_classes, image_shape, width, dtype, rngs):
        return MLP(
            math.prod(image_shape),
            (size if width is None else width,) * hidden_layers,
            num_classes=num_classes,
            dtype=dtype,
            rngs=rngs,
        )

    return construct


def _mobilenet(*, num_classes, image_shape, width, dtype, rngs) -> nnx.Module:
    check_image_size(*image_shape[:2], smallest=SMALLEST_IMAGE)
    published = _mobilenet_v2.STEM_CHANNELS
    stem = published if width is None else width
    return _mobilenet_v2.MobileNetV2(
        stem,
        _mobilenet_v2.LAST_CHANNELS * stem // published,
        num_classes=num_classes,
        in_channels=image_shape[-1],
        dtype=dtype,
        rngs=rngs,
    )


def _efficientnet(*, num_classes, image_shape, width, dtype, rngs) -> nnx.Module:
    check_image_size(*image_shape[:2], smallest=SMALLEST_IMAGE)
    published = _efficientnet_lite.STEM_CHANNELS
    stem = published if width is None else width
    return _efficientnet_lite.EfficientNetLite(
        stem,
        max(1, _efficientnet_lite.LAST_CHANNELS * stem // published),
        num_classes=num_classes,
        in_channels=image_shape[-1],
        dtype=dtype,
        rngs=rngs,
    )


def _shufflenet_v1_by_width(*, width, **settings) -> nnx.Module:
    if width is not None and width % 12:
        raise InvalidInputError(
            "width must be a multiple of 12 for 'ShuffleV1', so that its groups divide "
            f"the channels of all layers, got {width}",
            argument="width",
        )
    network = _staged(_shufflenet_v1.ShuffleNetV1, _shufflenet_v1.WIDTHS)
    return network(width=width, **settings)


def _shufflenet_v2_by_width(
    *, num_classes, image_shape, width, dtype, rngs
) -> nnx.Module:
    check_image_size(*image_shape[:2], smallest=SMALLEST_IMAGE)
    published, *stages = _shufflenet_v2.WIDTHS
    stem = published if width is None else width
    # Scaling the halves keeps the widths even.
    halves = (channels // 2 * stem // published for channels in stages)
    return _shufflenet_v2.ShuffleNetV2(
        (stem, *(2 * half for half in halves)),
        _shufflenet_v2.LAST_CHANNELS * stem // published,
        num_classes=num_classes,
        in_channels=image_shape[-1],
        dtype=dtype,
        rngs=rngs,
    )


def _transformer(channels: int, heads: int) -> _Constructor:
    def construct(*, num_classes, image_shape, width, dtype, rngs):
        if width is not None and width % heads:
            raise InvalidInputError(
                f"width must be a multiple of {heads}, this transformer's number of "
                f"attention heads, got {width}",
                argument="width",
            )
        return _vit.VisionTransformer(
            image_shape[:2],
            channels if width is None else width,
            heads=heads,
            num_classes=num_classes,
            in_channels=image_shape[-1],
            dtype=dtype,
            rngs=rngs,
        )

    return construct


_NARROW = (16, 16, 32, 64)
_WIDE = (32, 64, 128, 256)

_MODELS: dict[str, _Constructor] = {
    "mlp": _mlp(hidden_layers=2, size=256),
    "resnet8": _cifar_resnet(8, _NARROW),
    "resnet14": _cifar_resnet(14, _NARROW),
    "resnet20": _cifar_resnet(20, _NARROW),
    "resnet32": _cifar_resnet(32, _NARROW),
    "resnet44": _cifar_resnet(44, _NARROW),
    "resnet56": _cifar_resnet(56, _NARROW),
    "resnet110": _cifar_resnet(110, _NARROW),
    "resnet8x4": _cifar_resnet(8, _WIDE),
    "resnet32x4": _cifar_resnet(32, _WIDE),
    "ResNet50": _resnet(Bottleneck, (3, 4, 6, 3), small_images=True),
    "resnet18": _resnet(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _resnet(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _resnet(Bottleneck, (3, 4, 6, 3)),
    "wrn_16_1": _wide_resnet(16, 1),
    "wrn_16_2": _wide_resnet(16, 2),
    "wrn_40_1": _wide_resnet(40, 1),
    "wrn_40_2": _wide_resnet(40, 2),
    "vgg8": _vgg(1, 1, 1, 1, 1),
    "vgg11": _vgg(1, 1, 2, 2, 2),
    "vgg13": _vgg(2, 2, 2, 2, 2),
    "vgg16": _vgg(2, 2, 3, 3, 3),
    "vgg19": _vgg(2, 2, 4, 4, 4),
    "MobileNetV2": _mobilenet,
    "ShuffleV1": _shufflenet_v1_by_width,
    "ShuffleV2": _shufflenet_v2_by_width,
    "efficientnet_lite0": _efficientnet,
    "vit_ti": _transformer(192, heads=3),
    "vit_s": _transformer(384, heads=6),
    "vit_b": _transformer(768, heads=12),
}


# Networks that were made for ImageNet. All others were made for CIFAR.
_LARGE_IMAGES = (
    *("resnet18", "resnet34", "resnet50", "efficientnet_lite0"),
    *("vit_ti", "vit_s", "vit_b"),
)


def published_image_size(name: str) -> int:
    """Return the height and width of the images that a network was made for.

    Args:
        name: One of :func:`names`.

    Example:
        >>> from jaxkd import models
        >>> models.published_image_size("resnet8"), models.published_image_size("vit_s")
        (32, 224)
    """
    return 224 if name in _LARGE_IMAGES else 32


def names() -> tuple[str, ...]:
    """Return the names of all networks that :func:`build` can build."""
    return tuple(_MODELS)


def build(
    name: str,
    *,
    num_classes: int,
    image_shape: ImageShape,
    width: int | None = None,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """Build a network by name.

    Args:
        name: One of :func:`names`. These are the published names: ``"ResNet50"`` is for
            small images (CIFAR) and ``"resnet50"`` for large images (ImageNet).
        num_classes: Number of logits.
        image_shape: Height, width and channels of the images.
        width: Channels of the stem (or the first stage if there is none), instead of
            the published number; all stages are scaled proportionally. For ``"mlp"``,
            the size of the hidden layers. For vision transformers (``"vit_ti"``), the
            size of a token.
        dtype: Dtype of the computation and of the output; float32 if None. Parameters
            and statistics are float64 if it is float64 (which requires
            ``jax_enable_x64``), otherwise float32.
        rngs: Randomness for the initial parameters.

    Returns:
        A module that maps normalized NHWC images to a :class:`ModelOutput`.

    Raises:
        InvalidInputError: If the name is unknown (the message suggests similar names),
            the images are too small for the network, or a number is not positive.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.build(
        ...     "resnet8", num_classes=10, image_shape=(8, 8, 1), width=4,
        ...     rngs=nnx.Rngs(0),
        ... )
        >>> type(model).__name__
        'CifarResNet'
    """
    if name not in _MODELS:
        raise unknown_name("model", name, _MODELS)
    if len(image_shape) != 3:
        raise InvalidInputError(
            f"image_shape must be (height, width, channels), got {image_shape}",
            argument="image_shape",
        )
    _checks.check_at_least(
        1, **{f"image_shape[{i}]": size for i, size in enumerate(image_shape)}
    )
    if width is not None:
        _checks.check_at_least(1, width=width)
    return _MODELS[name](
        num_classes=num_classes,
        image_shape=image_shape,
        width=width,
        dtype=dtype,
        rngs=rngs,
    )
