"""The optimizers that the studies compare, with their learning rates.

The rates are the best of (0.01, 0.02, 0.05, 0.1) for SGD and of (0.001, 0.003, 0.01,
0.03) for AdamW, by the accuracy on a fifth of the training images that was held out,
with distillation at infinite temperature and five seeds.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

_SGD_RATE, _ADAM_RATE = 0.02, 0.01
_SLOW = 0.25  # a rate that is safe, in place of the best one


class Rule(NamedTuple):
    """An optimizer.

    Attributes:
        name: Its name in tables.
        build: Builds it from a schedule, which falls from 1 to 0.
    """

    name: str
    build: Callable[[optax.Schedule], optax.GradientTransformation]


def _sgd(schedule):
    return optax.sgd(lambda step: _SGD_RATE * schedule(step), momentum=0.9)


def _slow_sgd(schedule):
    return _sgd(lambda step: _SLOW * schedule(step))


def _adamw(schedule):
    return optax.adamw(lambda step: _ADAM_RATE * schedule(step))


def keep_class_sums() -> optax.GradientTransformation:
    """Subtract the class means from the classifier's update.

    After any optimizer, this keeps the class sums of the classifier. If the loss
    depends only on the softmax, and steps only on gradients and decay, the predictions
    after every step are those of the optimizer alone: neither they nor the gradients
    depend on the subtracted part.
    """

    def centered(path, update):
        if "classifier" not in jax.tree_util.keystr(path):
            return update
        return update - jnp.mean(update, axis=-1, keepdims=True)

    return optax.stateless(
        lambda updates, _: jax.tree_util.tree_map_with_path(centered, updates)
    )


def _kept(schedule):
    return optax.chain(_adamw(schedule), keep_class_sums())


def _split(schedule):
    def part(path, _):
        return "head" if "classifier" in jax.tree_util.keystr(path) else "body"

    return optax.partition(
        {"head": _sgd(schedule), "body": _adamw(schedule)},
        lambda params: jax.tree_util.tree_map_with_path(part, params),
    )


SGD = Rule("SGD", _sgd)
SLOW_SGD = Rule("SGD, a quarter of the rate", _slow_sgd)
ADAM = Rule("AdamW", _adamw)
KEPT = Rule("AdamW, class sums kept", _kept)
SPLIT = Rule("AdamW, SGD on the classifier", _split)
