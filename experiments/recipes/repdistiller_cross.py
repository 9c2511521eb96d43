"""RepDistiller cross."""

from experiments.recipes._table import CIFAR100, Network, Pair, Settings, Table
from experiments.recipes.repdistiller_same import ROWS

_R50 = Network("ResNet50")
_R32X4 = Network("resnet32x4")
_MV2 = Network("MobileNetV2", learning_rate=0.01)
_SHUFFLE_V1 = Network("ShuffleV1", learning_rate=0.01)
_SHUFFLE_V2 = Network("ShuffleV2", learning_rate=0.01)

TABLE = Table(
    name="repdistiller_cross",
    title="RepDistiller (arXiv 1910.10699): CIFAR-100 top-1 (%), across architectures",
    settings=Settings(CIFAR100),
    pairs=(
        Pair("VGG13-MV2", Network("vgg13"), _MV2),
        Pair("R50-MV2", _R50, _MV2),
        Pair("R50-VGG8", _R50, Network("vgg8")),
        Pair("R32x4-ShufV1", _R32X4, _SHUFFLE_V1),
        Pair("R32x4-ShufV2", _R32X4, _SHUFFLE_V2),
        Pair("WRN40_2-ShufV1", Network("wrn_40_2"), _SHUFFLE_V1),
    ),
    rows=ROWS,
    baseline="crd",
)
