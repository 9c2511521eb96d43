"""Evaluation on every example exactly once."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data import Split, Streamed, padded_batches
from jaxkd.training._devices.placement import ONE_DEVICE, Placement
from jaxkd.training._step.frozen import Apply, FrozenNetwork, check_classes
from jaxkd.training._step.verify import verify_inference_mode

Totals = tuple[np.ndarray, np.ndarray]
"""The number of correct predictions, and the sum of the cross-entropies in nats."""


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


def evaluate(
    network: FrozenNetwork, split: Split, *, batch_size: int = 256
) -> Evaluation:
    """Compute accuracy and cross-entropy of a frozen network on a whole split.

    Raises:
        InvalidInputError: If the network is one of yours and not in inference mode, or
            if it has fewer classes than the labels.
        InvalidTypeError: If the network is not frozen, or the split is none.
    """
    if not isinstance(network, FrozenNetwork):
        raise InvalidTypeError(
            f"network must be frozen, got {type(network).__name__}. Pass training."
            "freeze_teacher(network, normalization).",
            argument="network",
        )
    if not isinstance(split, Split):
        raise InvalidTypeError(
            f"split must be a Split, such as dataset.test, got {type(split).__name__}",
            argument="split",
        )
    images = split.images
    verify_inference_mode(network, tuple(images.shape[1:]), images.dtype)
    return make_evaluator(network.apply, split, batch_size=batch_size)(
        network.variables
    )


def make_evaluator(
    apply: Apply,
    split: Split,
    *,
    batch_size: int = 256,
    placement: Placement = ONE_DEVICE,
) -> Callable[[Any], Evaluation]:
    """Compile the evaluation of one architecture on one split.

    Args:
        apply: The network's inference function (:class:`FrozenNetwork`).
        split: The examples. They are put on the device once, or streamed every time.
        batch_size: Examples per forward pass. The remainder is padded and masked, so
            there is one compiled program and every example counts once.
        placement: The devices of the arrays; by default one device.

    Returns:
        ``variables -> Evaluation``, reusable for any variables of that architecture.
    """
    add_batch = _add_batch_of(apply, split, placement)
    total = _sum_over(split, add_batch, np.zeros((), np.float32), batch_size, placement)
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
    """Compile :func:`make_evaluator` for several networks at once.

    Args:
        apply: The networks' inference function.
        split: The examples.
        trials: Number of networks.
        batch_size: Examples per forward pass.
        placement: The devices of the arrays; by default one device.

    Returns:
        ``variables -> [Evaluation, ...]``, where every array of the variables has a
        leading axis of networks.
    """
    add_batch = jax.vmap(
        _add_batch_of(apply, split, placement),
        in_axes=(0, 0, None, None, None, None),
        spmd_axis_name=placement.vmap_axis,
    )
    zeros = np.zeros(trials, np.float32)
    total = _sum_over(split, add_batch, zeros, batch_size, placement)
    count = len(split.labels)

    def run(variables: Any) -> list[Evaluation]:
        return [
            Evaluation(float(correct) / count, float(nats) / count, count)
            for correct, nats in zip(*total(variables), strict=True)
        ]

    return run


def _add_batch_of(
    apply: Apply, split: Split, placement: Placement
) -> Callable[..., Any]:
    """Build the function that adds one batch to the totals of one network."""
    streamed = isinstance(split.images, Streamed)
    if np.min(split.labels, initial=0) < 0:
        raise InvalidInputError(
            f"split has {np.sum(split.labels < 0):,} of {len(split.labels):,} images "
            "without a label, which cannot be evaluated; leave them out",
            argument="split",
        )
    classes = int(np.max(split.labels, initial=0)) + 1

    def add_batch(totals, variables, images, labels, rows, mask):
        if not streamed:
            images = images[rows]
        images = placement.over_data(images)
        logits = apply(variables, images).logits.astype(jnp.float32)
        check_classes(logits.shape[-1], classes, "the network")
        truth = _checks.as_class_numbers(labels)[rows]
        nats = optax.losses.softmax_cross_entropy_with_integer_labels(logits, truth)
        correct = logits.argmax(-1).astype(truth.dtype) == truth
        return (
            totals[0] + jnp.sum(correct, where=mask, dtype=jnp.float32),
            totals[1] + jnp.sum(nats, where=mask),
        )

    return add_batch


def _sum_over(
    split: Split,
    add_batch: Callable[..., Any],
    zeros: np.ndarray,
    batch_size: int,
    placement: Placement,
) -> Callable[[Any], Totals]:
    """Compile the sum over all batches of a split, which starts with ``zeros``."""
    count = len(split.labels)
    rows, mask = padded_batches(count, min(batch_size, count))
    batches = [placement.put(batch) for batch in zip(rows, mask, strict=True)]
    labels = placement.put(split.labels)
    begin = placement.put((zeros, zeros))
    compiled = jax.jit(lambda *given: placement.everywhere(add_batch(*given)))
    if isinstance(source := split.images, Streamed):
        image_batches = lambda: _streamed_images(source, rows, placement)
    else:
        images = placement.put(np.asarray(source))
        image_batches = lambda: itertools.repeat(images, len(batches))

    def run(variables: Any) -> Totals:
        totals = begin
        for (batch_rows, batch_mask), own in zip(batches, image_batches(), strict=True):
            totals = compiled(totals, variables, own, labels, batch_rows, batch_mask)
        return jax.device_get(totals)

    return run


def _streamed_images(
    images: Streamed, rows: np.ndarray, placement: Placement
) -> Iterator[jax.Array]:
    """Read the images of each batch and put them on the device."""
    size = rows.shape[1]
    # Threads: processes would take longer to start than most test sets take to read.
    iterator = images.batches(rows[:, placement.own_rows(size)], workers=0)
    try:
        for own, _ in iterator:
            yield placement.put_rows(np.asarray(own), size)
    finally:
        iterator.close()
