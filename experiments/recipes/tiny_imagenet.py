"""A variant of HKD's Table 1 on TinyImageNet: 200 classes, 64x64 pixels.

Zhou et al., `Distilling Holistic Knowledge with Graph Neural Networks
<https://arxiv.org/abs/2108.05507>`_, ICCV 2021.

    python -m experiments.recipes tiny_imagenet --run-all --report

An estimate, not measured: 14,192 days on AMD EPYC, 2 cores, one run after the other
(`--cost` has each pair, `_cost.py` how it is derived: multiply-accumulates, scaled from
the two speeds in docs/performance.md). No accelerator's speed is measured, and none is
estimated.

The published numbers are not transcribed, nor which pairs and settings they are of:
pairs, methods and schedule are those of hkd_table1, with 3 seeds, crops of 8 zero
pixels and mirroring. Nobody has run it: all cells are empty.

The images are read from the folder `./tiny-imagenet-200` with `train/CLASS/IMAGE` and
`val/CLASS/IMAGE`. As distributed, the files of `val` lie together and
`val_annotations.txt` says their classes: move them into class folders first, and leave
the unlabelled folder `test` out.
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
