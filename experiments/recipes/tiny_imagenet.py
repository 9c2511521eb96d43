"""TinyImageNet."""

import dataclasses

from experiments.recipes import hkd_table1
from experiments.recipes._table import Data, Settings, Table

TABLE = Table(
    name="tiny_imagenet",
    title="HKD (arXiv 2108.05507) on TinyImageNet, top-1 (%): a variant",
    settings=Settings(
        Data("./tiny-imagenet-200", 100_000, (64, 64, 3), 200),
        trials=3,
        options=("--crop-padding", "8", "--flip"),
    ),
    pairs=hkd_table1.PAIRS,
    rows=tuple(
        dataclasses.replace(row, published=(), improvement=None)
        for row in hkd_table1.ROWS
    ),
    baseline="hkd+kd",
)
