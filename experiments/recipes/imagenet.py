"""A variant on ImageNet: ResNet-34 teaches ResNet-18.

Tian et al., `Contrastive Representation Distillation
<https://arxiv.org/abs/1910.10699>`_, ICLR 2020, has this pair; HKD is from Zhou et
al., `Distilling Holistic Knowledge with Graph Neural Networks
<https://arxiv.org/abs/2108.05507>`_, ICCV 2021.

    python -m experiments.recipes imagenet --run-all --report

An estimate, not measured: 16,882 days on AMD EPYC, 2 cores, one run after the other
(`--cost` prints it for each pair; `_cost.py` derives it from multiply-accumulates and
the two speeds in docs/performance.md). No accelerator's speed is measured or estimated.

The published numbers and their settings are not transcribed. Nobody has run the table:
all cells are empty. The settings here are the usual ones: 100 epochs, batch 256,
learning rate 0.1 falling tenfold at epochs 30, 60 and 90, weight decay 1e-4, one seed.
Test images are scaled to 256 pixels and cropped to 224x224, as usual. The augmentation
is *not quite* the usual one: the random crops of random size are drawn in training
images that have been scaled and cropped to 224x224 once, not in the original images.
Accuracies may therefore differ from published ones for this reason, too.

The images are read from the folder `./imagenet` with `train/CLASS/IMAGE` and
`val/CLASS/IMAGE`, streamed by 16 processes. The two banks of CRD and of HKD have
1,281,167 rows of 128 float32 numbers: 1.3 GB together.
"""

from experiments.recipes._table import Data, Network, Pair, Row, Settings, Table

TABLE = Table(
    name="imagenet",
    title="ImageNet top-1 (%), ResNet-34 to ResNet-18: a variant",
    settings=Settings(
        Data("./imagenet", 1_281_167, (224, 224, 3), 1_000),
        trials=1,
        epochs=100,
        batch_size=256,
        milestones=(0.3, 0.6, 0.9),
        weight_decay=1e-4,
        options=(
            *("--image-size", "224", "--stream", "--workers", "16"),
            *("--test-resize", "256", "--flip", "True"),
            *("--random-resized-crop", "0.08", "1"),
        ),
    ),
    pairs=(
        Pair(
            "R34-R18",
            Network("resnet34", learning_rate=0.1),
            Network("resnet18", learning_rate=0.1),
        ),
    ),
    rows=(
        Row("KD", "kd", {"ce": 0.1, "kd": 0.9}),
        Row("AT", "at", {"ce": 1.0, "at": 1000.0}),
        Row("SP", "sp", {"ce": 1.0, "sp": 3000.0}),
        Row("CRD", "crd", {"ce": 1.0, "crd": 0.8}),
        Row("CRD+KD", "crd+kd", {"ce": 1.0, "crd": 0.8, "kd": 1.0}),
        Row("HKD", "hkd", {"ce": 1.0, "hkd": 3.0}),
        Row("HKD+KD", "hkd+kd", {"ce": 1.0, "hkd": 3.0, "kd": 1.0}),
    ),
    baseline="hkd+kd",
)
