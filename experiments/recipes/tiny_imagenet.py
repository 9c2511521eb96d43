"""A variant of HKD's Table 1 on TinyImageNet: 200 classes, 64x64 pixels.

Zhou et al., `Distilling Holistic Knowledge with Graph Neural Networks
<https://arxiv.org/abs/2108.05507>`_, ICCV 2021.

    python -m experiments.recipes tiny_imagenet --run-all --report

An estimate, not measured: 14,192 days on AMD EPYC, 2 cores, one run after the other
(`--cost` prints it for each pair; `_cost.py` derives it from multiply-accumulates and
the two speeds in docs/performance.md). No accelerator's speed is measured or estimated.

The published numbers, and their pairs and settings, are not transcribed. Pairs, methods
and schedule are those of hkd_table1, with 3 seeds, crops with 8 zero pixels of padding,
and mirroring. Nobody has run the table: all cells are empty.

The images are read from the folder `./tiny-imagenet-200` with `train/CLASS/IMAGE` and
`val/CLASS/IMAGE`. In the distributed archive, the files of `val` are in one
folder, and `val_annotations.txt` has their classes. Move them into class folders first,
and leave out the unlabeled folder `test`.
"""

import dataclasses

from experiments.recipes import hkd_table1
from experiments.recipes._table import Data, Settings, Table

TABLE = Table(
    name="tiny_imagenet",
    title="HKD (arXiv 2108.05507) on TinyImageNet, top-1 (%): a variant",
    settings=Settings(
        Data("./tiny-imagenet-200", 100_000, (64, 64, 3), 200),
        trials=3,
        options=("--crop-padding", "8", "--flip", "True"),
    ),
    pairs=hkd_table1.PAIRS,
    rows=tuple(
        dataclasses.replace(row, published=(), improvement=None)
        for row in hkd_table1.ROWS
    ),
    baseline="hkd+kd",
)
