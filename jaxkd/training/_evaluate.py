"""Evaluation on every example exactly once."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data import Split, Streamed, padded_batches
from jaxkd.training._devices.placement import ONE_DEVICE, Placement
from jaxkd.training._step.frozen import Apply, FrozenNetwork, check_classes
from jaxkd.training._step.verify import verify_inference_mode

TOP = 5
"""The number of classes among which :attr:`Evaluation.top5_accuracy` looks."""

Totals = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The correct predictions, the sum of the cross-entropies in nats, and the correct
predictions among the five largest logits (NaN for five classes or fewer)."""


class Evaluation(NamedTuple):
    """Results on a whole split.

    Attributes:
        accuracy: Share of correct top-1 predictions, in ``[0, 1]``.
        loss: Mean cross-entropy in nats.
        num_examples: Number of examples.
        top5_accuracy: Share of examples whose class is among the five largest logits,
            in ``[0, 1]``; None for a network of five classes or fewer. Of equal logits,
            the first counts as larger, as for ``argmax``.
    """

    accuracy: float
    loss: float
    num_examples: int
    top5_accuracy: float | None = None


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
    (run,) = make_evaluators(apply, [split], batch_size=batch_size, placement=placement)
    return lambda variables: run(variables)[0]


def make_evaluators(
    apply: Apply,
    splits: Sequence[Split],
    *,
    trials: int | None = None,
    batch_size: int = 256,
    placement: Placement = ONE_DEVICE,
) -> list[Callable[[Any], list[Evaluation]]]:
    """Compile the evaluation of one architecture, or of several trials, on splits.

    The splits share one compiled program: their batches have the same size.

    Args:
        apply: The network's inference function.
        splits: The examples of each split.
        trials: Number of networks; every array of the variables has a leading axis of
            networks. None for one network without that axis.
        batch_size: Examples per forward pass.
        placement: The devices of the arrays; by default one device.

    Returns:
        A function ``variables -> [Evaluation, ...]`` for each split.
    """
    for split in splits:
        _check_labeled(split)
    classes = 1 + max(int(np.max(s.labels, initial=0)) for s in splits)
    add_batch = _add_batch_of(apply, classes, placement)
    zeros = np.zeros(() if trials is None else trials, np.float32)
    if trials is not None:
        add_batch = jax.vmap(
            add_batch,
            in_axes=(0, 0, None, None, None),
            spmd_axis_name=placement.vmap_axis,
        )
    compiled = jax.jit(lambda *given: placement.everywhere(add_batch(*given)))
    batch_size = min(batch_size, max(len(s.labels) for s in splits))

    def evaluator(split: Split) -> Callable[[Any], list[Evaluation]]:
        count = len(split.labels)
        total = _sum_over(split, compiled, zeros, batch_size, placement)

        def run(variables: Any) -> list[Evaluation]:
            totals = map(np.atleast_1d, total(variables))
            return [_evaluation(count, *each) for each in zip(*totals, strict=True)]

        return run

    return [evaluator(split) for split in splits]


def _check_labeled(split: Split) -> None:
    """Raise unless every image has a label."""
    if np.min(split.labels, initial=0) < 0:
        raise InvalidInputError(
            f"split has {np.sum(split.labels < 0):,} of {len(split.labels):,} images "
            "without a label, which cannot be evaluated; leave them out",
            argument="split",
        )


def _evaluation(count: int, correct: Any, nats: Any, among_top: Any) -> Evaluation:
    top = float(among_top) / count
    return Evaluation(
        float(correct) / count,
        float(nats) / count,
        count,
        None if math.isnan(top) else top,
    )


def _add_batch_of(
    apply: Apply, classes: int, placement: Placement
) -> Callable[..., Any]:
    """Build the function that adds one batch to the totals of one network."""

    def add_batch(totals, variables, images, truth, mask):
        logits = apply(variables, placement.over_data(images)).logits
        logits = logits.astype(jnp.float32)
        check_classes(logits.shape[-1], classes, "the network")
        nats = optax.losses.softmax_cross_entropy_with_integer_labels(logits, truth)
        correct = logits.argmax(-1).astype(truth.dtype) == truth
        if logits.shape[-1] > TOP:
            among_top = jnp.sum(
                is_among_largest(logits, truth, TOP), where=mask, dtype=jnp.float32
            )
        else:
            among_top = jnp.full((), jnp.nan, jnp.float32)
        return (
            totals[0] + jnp.sum(correct, where=mask, dtype=jnp.float32),
            totals[1] + jnp.sum(nats, where=mask),
            totals[2] + among_top,
        )

    return add_batch


def is_among_largest(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], k: int
) -> Bool[Array, " batch"]:
    """Return whether each label is among the ``k`` largest logits of its example.

    Of equal logits the first counts as larger, and NaN as infinity. So the answer for
    ``k=1`` is that of ``argmax``. Unlike a sort, this needs no memory beyond the logits
    and can be divided over devices.
    """
    logits = jnp.where(jnp.isnan(logits), jnp.inf, logits)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    before = jnp.arange(logits.shape[-1], dtype=labels.dtype)[None] < labels[:, None]
    larger = (logits > own) | ((logits == own) & before)
    return jnp.sum(larger, axis=-1, dtype=jnp.int32) < k


def _sum_over(
    split: Split,
    add_batch: Callable[..., Any],
    zeros: np.ndarray,
    batch_size: int,
    placement: Placement,
) -> Callable[[Any], Totals]:
    """Return the sum over all batches of a split, which starts with ``zeros``."""
    rows, masks = padded_batches(len(split.labels), batch_size)
    truth = np.asarray(_checks.as_class_numbers(np.asarray(split.labels)))
    numbers = [placement.put(each) for each in zip(truth[rows], masks, strict=True)]
    begin = placement.put((zeros, zeros, zeros))
    if isinstance(source := split.images, Streamed):
        image_batches = lambda: _streamed_images(source, rows, placement)
    else:
        images = [placement.put(np.asarray(source[each])) for each in rows]
        image_batches = lambda: iter(images)

    def run(variables: Any) -> Totals:
        totals = begin
        for (labels, mask), images in zip(numbers, image_batches(), strict=True):
            totals = add_batch(totals, variables, images, labels, mask)
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
