"""Twelve methods on Fashion-MNIST, small enough for two CPU cores.

This table is unpublished: this project has measured it. It uses 20,000 of the 60,000
training images, resized to 14x14 pixels, ten epochs, batch 64, the published schedule
and each method's published weights, without tuning. The accuracy is on the whole test
set after the last epoch, for five seeds.

    python -m experiments.recipes fashion_mnist --run-all --report

The pair was chosen by networks trained alone on 20,000 of the training images and
tested on 5,000 others: resnet14 88.4 %, resnet20 88.0 %, resnet8 with 4 channels
80.3 %, with 2 channels 76.4 %.
"""

import dataclasses

from experiments.recipes import hkd_table1
from experiments.recipes._table import Data, Network, Pair, Row, Settings, Table

_OF_THE_PAPER = tuple(
    dataclasses.replace(row, published=(), improvement=None)
    for row in hkd_table1.ROWS
    if row.method != "sskd"  # its rotated views quadruple the cost of a step
)

TABLE = Table(
    name="fashion_mnist",
    title="Fashion-MNIST, 20,000 images of 14x14, test accuracy (%)",
    settings=Settings(
        Data("fashion_mnist", 20_000, (14, 14, 1), 10),
        epochs=10,
        options=("--image-size", "14", "--subset", "20000", "--no-report"),
    ),
    pairs=(Pair("R14-R8", Network("resnet14"), Network("resnet8", width=4)),),
    rows=(
        *_OF_THE_PAPER,
        Row("DKD", "dkd", {"ce": 1.0, "dkd": 1.0}),
        Row("LM", "logit-matching", {"lm": 1.0}),
    ),
    baseline="hkd+kd",
)
