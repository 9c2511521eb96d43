"""Estimate the cost of a table from the speeds in docs/performance.md.

Two runs on Fashion-MNIST were measured: a resnet20 alone, and a resnet8 that learns
from it by HKD+KD. A training step of a network counts as three forward passes, and that
of a teacher as one. Each run thus gives a number of multiply-accumulates per second,
and the work of a table's runs is divided by it. The estimate leaves out pretraining
stages, additional views of an image, projection heads, reading of images, and how well
other networks use the machine.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments._macs import count_macs
from experiments.recipes._table import Data, Network, Pair, Table
from jaxkd import models, training

HARDWARE = "AMD EPYC, 2 cores"
_FASHION = Data("fashion_mnist", 60_000, (28, 28, 1), 10)
# Images per second.
_ALONE = 101.0
_TAUGHT = 112.0
_RESNET20, _RESNET8 = Network("resnet20"), Network("resnet8")
# Forward passes per training step of a network.
_TRAINED = 3


@functools.cache
def macs(network: Network, data: Data) -> int:
    """Count the multiply-accumulates of one image's forward pass."""

    def build() -> nnx.Module:
        network_ = models.build(
            network.model,
            num_classes=data.classes,
            image_shape=data.shape,
            width=network.width,
            rngs=nnx.Rngs(0),
        )
        return training.inference_view(network_)

    graphdef, state = nnx.split(nnx.eval_shape(build))
    image = jax.ShapeDtypeStruct((1, *data.shape), jnp.float32)
    forward = lambda state, image: nnx.merge(graphdef, state)(image)
    return count_macs(forward, state, image)


def cell_days(table: Table, pair: Pair) -> float:
    """Estimate the days of one cell's students on the measured machine."""
    teacher, student = macs(_RESNET20, _FASHION), macs(_RESNET8, _FASHION)
    rate = _TAUGHT * (teacher + _TRAINED * student)
    # The trials of a cell share the teacher's outputs.
    count = functools.partial(macs, data=table.settings.data)
    trained = table.settings.trials * _TRAINED * count(pair.student)
    return _days(table, (count(pair.teacher) + trained) / rate)


def alone_days(table: Table, network: Network, trials: int) -> float:
    """Estimate the days of networks without a teacher on the measured machine."""
    rate = _ALONE * macs(_RESNET20, _FASHION)
    return _days(table, trials * macs(network, table.settings.data) / rate)


def days(table: Table) -> float:
    """Estimate the days of all runs of a table on the measured machine, one by one."""
    teachers = {pair.teacher for pair in table.pairs}
    students = {pair.student for pair in table.pairs}
    trials = table.settings.trials
    return sum(
        [
            *(alone_days(table, network, 1) for network in teachers),
            *(alone_days(table, network, trials) for network in students),
            *(
                cell_days(table, pair)
                for pair in table.pairs
                for row in table.rows
                if pair.name not in row.without
            ),
        ]
    )


def sentence(table: Table) -> str:
    """Describe the estimate of the whole table."""
    return (
        f"An estimate, not measured: {days(table):,.0f} days on {HARDWARE}, one run "
        "after the other"
    )


def _days(table: Table, seconds_per_image: float) -> float:
    images = table.settings.epochs * table.settings.data.images
    return images * seconds_per_image / 86_400
