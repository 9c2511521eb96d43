"""Evaluation on every example exactly once."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxkd.data import Split, Streamed, padded_batches
from jaxkd.training._networks import Apply, FrozenNetwork
from jaxkd.training._placement import ONE_DEVICE, Placement


class Evaluation(NamedTuple):
    """Results on a whole split.

    Attributes:
        accuracy: Share of correct top-1 predictions, in ``[0, 1]``.
        loss: Mean cross-entropy in nats.
        num_examples: Number of examples.
    """

    accuracy: float
    loss: float
    num_examples: int


def make_evaluator(
    apply: Apply,
    split: Split,
    *,
    batch_size: int = 256,
    placement: Placement = ONE_DEVICE,
) -> Callable[[Any], Evaluation]:
    """Compiles the evaluation of one architecture on one split.

    Args:
        apply: The network's inference function (:class:`FrozenNetwork`).
        split: The examples; they are put on the device once, or streamed every time.
        batch_size: Examples per forward pass. The remainder is padded and masked, so
            there is one compiled program and every example counts once.
        placement: Where the arrays lie; by default on one device.

    Returns:
        ``variables -> Evaluation``, reusable for any variables of that architecture.
    """
    total = _make_total(apply, split, batch_size, None, placement)
    count = len(split.labels)

    def run(variables: Any) -> Evaluation:
        correct, nats = total(variables)
        return Evaluation(float(correct) / count, float(nats) / count, count)

    return run


def make_trials_evaluator(
    apply: Apply,
    split: Split,
    trials: int,
    *,
    batch_size: int = 256,
    placement: Placement = ONE_DEVICE,
) -> Callable[[Any], list[Evaluation]]:
    """Like :func:`make_evaluator`, for several networks at once.

    Args:
        apply: The networks' inference function.
        split: The examples.
        trials: How many networks there are.
        batch_size: Examples per forward pass.
        placement: Where the arrays lie; by default on one device.

    Returns:
        ``variables -> [Evaluation, ...]``, where every array of the variables has a
        leading axis of networks.
    """
    total = _make_total(apply, split, batch_size, trials, placement)
    count = len(split.labels)

    def run(variables: Any) -> list[Evaluation]:
        return [
            Evaluation(float(correct) / count, float(nats) / count, count)
            for correct, nats in zip(*total(variables), strict=True)
        ]

    return run


def _make_total(
    apply: Apply,
    split: Split,
    batch_size: int,
    trials: int | None,
    placement: Placement,
) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """``variables -> (correct predictions, nats)``, summed over the split."""
    count = len(split.labels)
    rows, mask = padded_batches(count, min(batch_size, count))
    batches = [placement.put(batch) for batch in zip(rows, mask, strict=True)]
    streamed = isinstance(split.images, Streamed)
    images = None if streamed else placement.put(np.asarray(split.images))
    labels = placement.put(split.labels)
    zero = np.zeros(() if trials is None else trials, np.float32)
    zeros = placement.put((zero, zero))

    def add_batch(totals, variables, images, labels, rows, mask):
        if not streamed:
            images = images[rows]
        images = placement.over_data(images)
        logits = apply(variables, images).logits.astype(jnp.float32)
        truth = labels[rows]
        nats = optax.losses.softmax_cross_entropy_with_integer_labels(logits, truth)
        correct = logits.argmax(-1).astype(truth.dtype) == truth
        return (
            totals[0] + jnp.sum(correct, where=mask, dtype=jnp.float32),
            totals[1] + jnp.sum(nats, where=mask),
        )

    add_all = add_batch
    if trials is not None:
        add_all = jax.vmap(
            add_batch,
            in_axes=(0, 0, None, None, None, None),
            spmd_axis_name=placement.vmap_axis,
        )
    compiled = jax.jit(lambda *given: placement.everywhere(add_all(*given)))

    def image_batches() -> Iterator[Any]:
        if not isinstance(split.images, Streamed):
            yield from itertools.repeat(images, len(batches))
            return
        # Threads: processes would take longer to start than most test sets to read.
        size = rows.shape[1]
        iterator = split.images.batches(rows[:, placement.own_rows(size)], workers=0)
        try:
            for own, _ in iterator:
                yield placement.put_rows(np.asarray(own), size)
        finally:
            iterator.close()

    def run(variables: Any) -> tuple[np.ndarray, np.ndarray]:
        totals = zeros
        for (batch_rows, batch_mask), own in zip(batches, image_batches(), strict=True):
            totals = compiled(totals, variables, own, labels, batch_rows, batch_mask)
        return jax.device_get(totals)

    return run


def evaluate(
    network: FrozenNetwork, split: Split, *, batch_size: int = 256
) -> Evaluation:
    """Accuracy and cross-entropy of a frozen network on a whole split."""
    return make_evaluator(network.apply, split, batch_size=batch_size)(
        network.variables
    )
