"""RepDistiller's table of pairs across architectures, on CIFAR-100.

Tian et al., `Contrastive Representation Distillation
<https://arxiv.org/abs/1910.10699>`_, ICLR 2020, and the benchmark that came with it.
Six pairs; twelve methods and CRD+KD. FSP is left out, because the widths differ.

    python -m experiments.recipes repdistiller_cross --run-all --report

An estimate, not measured: 2,587 days on AMD EPYC, 2 cores, one run after the other
(`--cost` prints it for each pair; `_cost.py` derives it from multiply-accumulates and
the two speeds in docs/performance.md). No accelerator's speed is measured or estimated.

The published numbers are not transcribed, and nobody has run the table: all cells are
empty, and `--report` prints the finished ones. ARI is that of CRD. The differences from
the paper are those of repdistiller_same. MobileNetV2 and the ShuffleNets use the
learning rate 0.01.
"""

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
