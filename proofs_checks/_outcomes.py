"""Class sums after training with each optimizer, compared with their laws."""

import functools
from typing import NamedTuple

import chex
import numpy as np

from proofs_checks._class_sums import History, Sums, own_recursions, train
from proofs_checks._evidence import Settings
from proofs_checks._optimizers import OPTIMIZERS, Law, Optimizer

STEPS = 200
CLASSES = 5


class Outcome(NamedTuple):
    """Outcome of the training with one optimizer.

    Attributes:
        optimizer: Row of the table.
        history: The training.
        drift: Largest distance of the class sums from their law, ``[2, 2]``. The first
            axis is kernel and bias, the second the initialization.
        change: Largest distance of the class sums from their initial values,
            ``[2, 2]``.
        departure: Distance of each class sum from its law, relative to its scale:
            ``[steps + 1, 2, n]`` for the kernel and for the bias.
    """

    optimizer: Optimizer
    history: History
    drift: np.ndarray
    change: np.ndarray
    departure: tuple[np.ndarray, ...]


@functools.lru_cache(maxsize=8)
def outcomes(
    settings: Settings,
    optimizers: tuple[Optimizer, ...] = OPTIMIZERS,
    steps: int = STEPS,
    classes: int = CLASSES,
) -> tuple[Outcome, ...]:
    """Train with every optimizer and compare the class sums with their laws.

    Claims and controls share the results.

    Args:
        settings: Dtype and seed.
        optimizers: Rows of the table.
        steps: Number of steps.
        classes: Number of classes.
    """
    histories = train(optimizers, settings, steps=steps, classes=classes)
    decaying = [o for o in optimizers if Law.DECAYS in (o.kernel, o.bias)]
    recursions = own_recursions(decaying, histories, settings)
    found = []
    for optimizer in optimizers:
        history = histories[optimizer.name]
        sums = Sums(history.kernel.sum(-1), history.bias.sum(-1)[..., None])
        own = recursions.get(optimizer.name)
        own = sums if own is None else Sums(own.kernel, own.bias[..., None])
        scales = np.abs(history.kernel).sum(-1), np.abs(history.bias).sum(-1)[..., None]
        laws = optimizer.kernel, optimizer.bias
        off = tuple(_from_law(*x) for x in zip(laws, sums, own, scales, strict=True))
        moved = [_relative(x - x[0], s) for x, s in zip(sums, scales, strict=True)]
        drift, change = (
            np.array([np.abs(x).max((0, 2)) for x in each]) for each in (off, moved)
        )
        found.append(Outcome(optimizer, history, drift, change, off))
    return tuple(found)


def laws_of(outcome: Outcome) -> tuple[Law, Law]:
    """Return the laws of the kernel's and the bias's class sums."""
    return outcome.optimizer.kernel, outcome.optimizer.bias


def _from_law(
    law: Law, sums: np.ndarray, own: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return the relative distance of sums ``[steps + 1, 2, n]`` from their law."""
    expected = {
        Law.CONSERVED: lambda: sums[0],
        Law.DECAYS: lambda: own,
        Law.SCALED: lambda: _on_ray(sums),
        Law.BROKEN: lambda: sums[0],
    }
    return _relative(sums - expected[law](), scale)


def _relative(deviation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    chex.assert_equal_shape((deviation, scale))
    return deviation / scale.max((0, 2))[:, None]


def _on_ray(sums: np.ndarray) -> np.ndarray:
    """Return the multiples of the first sums that are nearest to the later sums."""
    start = sums[0]
    square = np.sum(start * start, axis=-1)
    factor = np.sum(sums * start, axis=-1) / np.where(square > 0, square, 1.0)
    return factor[..., None] * start
