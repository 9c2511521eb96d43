"""HKD's Table 1."""

from experiments.recipes._table import (
    CIFAR100,
    Network,
    Pair,
    Published,
    Row,
    Settings,
    Table,
)

_R32X4 = Network("resnet32x4")
_R50 = Network("ResNet50")
_MV2 = Network("MobileNetV2", learning_rate=0.01)

PAIRS = (
    Pair("R32x4-R8x4", _R32X4, Network("resnet8x4")),
    Pair("R32x4-ShufV2", _R32X4, Network("ShuffleV2", learning_rate=0.01)),
    Pair("VGG13-MV2", Network("vgg13"), _MV2),
    Pair("R50-VGG8", _R50, Network("vgg8")),
    Pair("R50-MV2", _R50, _MV2),
)


def _means(*numbers: float) -> tuple[Published, ...]:
    """Mean and deviation, alternating."""
    return tuple(map(Published, numbers[::2], numbers[1::2]))


ROWS = (
    Row(
        *("KD", "kd", {"ce": 0.1, "kd": 0.9}),
        _means(73.55, 0.20, 75.38, 0.52, 68.08, 0.24, 73.76, 0.09, 67.83, 0.46),
        126.48,
    ),
    Row(
        *("AT+KD", "at+kd", {"ce": 1.0, "at": 1000.0, "kd": 1.0}),
        _means(74.80, 0.15, 76.51, 0.16, 66.37, 0.13, 73.91, 0.24, 66.81, 0.11),
        152.84,
    ),
    Row(
        *("PKT+KD", "pkt+kd", {"ce": 1.0, "pkt": 30000.0, "kd": 1.0}),
        _means(74.68, 0.07, 76.16, 0.16, 68.08, 0.94, 74.19, 0.27, 68.42, 0.39),
        55.63,
    ),
    Row(
        *("SP+KD", "sp+kd", {"ce": 1.0, "sp": 3000.0, "kd": 1.0}),
        _means(73.99, 0.05, 76.02, 0.34, 68.46, 0.37, 73.50, 0.20, 68.18, 0.57),
        80.89,
    ),
    Row(
        *("CC+KD", "cc+kd", {"ce": 1.0, "cc": 0.02, "kd": 1.0}),
        _means(74.44, 0.14, 75.81, 0.20, 68.54, 0.21, 73.48, 0.16, 68.92, 0.16),
        58.96,
    ),
    Row(
        *("RKD+KD", "rkd+kd", {"ce": 1.0, "rkd": 1.0, "kd": 1.0}),
        _means(74.18, 0.09, 75.64, 0.24, 68.24, 0.46, 73.81, 0.11, 68.52, 0.14),
        72.15,
    ),
    Row(
        *("CRD+KD", "crd+kd", {"ce": 1.0, "crd": 0.8, "kd": 1.0}),
        _means(75.64, 0.25, 76.41, 0.36, 69.82, 0.22, 74.41, 0.31, 69.86, 0.04),
        15.32,
    ),
    Row(  # the recipe has soft targets already
        *("SSKD+KD", "sskd", {"ce": 0.1, "kd": 0.9, "sskd": 1.0}),
        _means(75.80, 0.58, 76.36, 0.38, 69.12, 0.54, 74.68, 0.22, 69.53, 0.43),
        18.86,
    ),
    Row(
        *("HKD", "hkd", {"ce": 1.0, "hkd": 3.0}),
        _means(75.63, 0.22, 76.31, 0.30, 69.97, 0.42, 74.86, 0.17, 69.83, 0.15),
        12.94,
    ),
    Row(
        *("HKD+KD", "hkd+kd", {"ce": 1.0, "hkd": 3.0, "kd": 1.0}),
        _means(76.13, 0.05, 76.92, 0.22, 70.48, 0.25, 74.88, 0.30, 70.72, 0.32),
    ),
)

TABLE = Table(
    name="hkd_table1",
    title="HKD (arXiv 2108.05507), Table 1: CIFAR-100 top-1 (%)",
    settings=Settings(CIFAR100),
    pairs=PAIRS,
    rows=ROWS,
    baseline="hkd+kd",
    teachers=tuple(map(Published, (79.42, 79.42, 74.64, 79.34, 79.34))),
    students=_means(72.79, 0.26, 72.63, 0.71, 65.33, 0.63, 70.56, 0.32, 65.33, 0.63),
)
