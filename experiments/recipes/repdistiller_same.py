"""RepDistiller's table of pairs of the same architecture, on CIFAR-100.

Tian et al., `Contrastive Representation Distillation
<https://arxiv.org/abs/1910.10699>`_, ICLR 2020, and the benchmark that came with it.
Seven pairs; thirteen methods and CRD+KD.

    python -m experiments.recipes repdistiller_same --run-all --report

An estimate, not measured: 3,648 days on AMD EPYC, 2 cores, one run after the other
(`--cost` prints it for each pair; `_cost.py` derives it from multiply-accumulates and
the two speeds in docs/performance.md). No accelerator's speed is measured or estimated.

The published numbers are not transcribed, and nobody has run the table: all cells are
empty, and `--report` prints the finished ones. ARI is that of CRD.

Differences from the paper: the batch size, schedule and learning rates are those of
HKD's Table 1, which extends this benchmark; there are 5 seeds with one order of the
data; teachers are trained with the students' schedule, unless published ones are
converted into their folders (see hkd_table1). FSP compares channels one by one, and has
no cell if the widths differ.
"""

from experiments.recipes._table import CIFAR100, Network, Pair, Row, Settings, Table

_WRN40_2 = Network("wrn_40_2")
_R20 = Network("resnet20")
_R110 = Network("resnet110")

# The methods of the comparison, in the order of both tables.
ROWS = (
    Row("KD", "kd", {"ce": 0.1, "kd": 0.9}),
    Row("FitNet", "hint", {"ce": 1.0, "hint": 100.0}),
    Row("AT", "at", {"ce": 1.0, "at": 1000.0}),
    Row("SP", "sp", {"ce": 1.0, "sp": 3000.0}),
    Row("CC", "cc", {"ce": 1.0, "cc": 0.02}),
    Row("VID", "vid", {"ce": 1.0, "vid": 1.0}),
    Row("RKD", "rkd", {"ce": 1.0, "rkd": 1.0}),
    Row("PKT", "pkt", {"ce": 1.0, "pkt": 30000.0}),
    Row("AB", "ab", {"ce": 1.0, "ab": 1.0}),
    Row("FT", "ft", {"ce": 1.0, "ft": 200.0}),
    Row("NST", "nst", {"ce": 1.0, "nst": 50.0}),
    Row("CRD", "crd", {"ce": 1.0, "crd": 0.8}),
    Row("CRD+KD", "crd+kd", {"ce": 1.0, "crd": 0.8, "kd": 1.0}),
)

# FSP compares channels one by one, so the networks must have the same widths.
_FSP = Row(
    "FSP", "fsp", {"ce": 1.0, "fsp": 1.0}, without=frozenset({"WRN40_2-WRN40_1"})
)

TABLE = Table(
    name="repdistiller_same",
    title="RepDistiller (arXiv 1910.10699): CIFAR-100 top-1 (%), same architecture",
    settings=Settings(CIFAR100),
    pairs=(
        Pair("WRN40_2-WRN16_2", _WRN40_2, Network("wrn_16_2")),
        Pair("WRN40_2-WRN40_1", _WRN40_2, Network("wrn_40_1")),
        Pair("R56-R20", Network("resnet56"), _R20),
        Pair("R110-R20", _R110, _R20),
        Pair("R110-R32", _R110, Network("resnet32")),
        Pair("R32x4-R8x4", Network("resnet32x4"), Network("resnet8x4")),
        Pair("VGG13-VGG8", Network("vgg13"), Network("vgg8")),
    ),
    rows=(*ROWS[:10], _FSP, *ROWS[10:]),
    baseline="crd",
)
