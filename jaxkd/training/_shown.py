"""What a run shows its students: augmented images, and a teacher's outputs for them."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data import Augmentation, ImageDataset, channel_statistics
from jaxkd.distillers import cross_entropy
from jaxkd.recordings import Views
from jaxkd.recordings._manifest import LAYER, OUTPUT
from jaxkd.recordings._views import describe, is_on
from jaxkd.training._devices.batches import Batches
from jaxkd.training._devices.placement import ONE_DEVICE
from jaxkd.training._stage import Stage, prepare_batch
from jaxkd.training._state import PyTree, data_key_of
from jaxkd.training._step import FrozenNetwork, Lesson, make_prepare

# Batches that the device computes while the host uses an earlier one.
_AHEAD = 2


class Shown:
    """The lessons of a run, without a student that learns from them.

    They are computed by the function that a run compiles for its lessons, so on CPU
    they have the same bits.

    Args:
        dataset: The dataset, with the augmentation of the run.
        views: The images to show. Clean ones are shown in the order of their rows.
        teacher: The frozen teacher, if its outputs are wanted.
        take: Takes the wanted arrays from a lesson; their first axis is the batch.

    Attributes:
        epochs: Number of epochs; 1 for clean images.
        steps_per_epoch: Number of batches in an epoch.
        batch_size: Examples in a batch.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        views: Views,
        teacher: FrozenNetwork | None,
        take: Callable[[Lesson], PyTree],
    ):
        self.epochs, self.steps_per_epoch = max(1, views.epochs), views.steps_per_epoch
        self.batch_size = views.batch_size
        self._views, placement = views, ONE_DEVICE
        in_order = lambda key, epoch: jnp.arange(views.rows, dtype=jnp.int32)
        self._batches = batches = Batches(
            *(dataset.train, views.batch_size, placement),
            draw=in_order if views.clean else None,
        )
        prepare = make_prepare(
            *(cross_entropy(), teacher),
            channel_statistics(dataset.train.images),
            dataset.augmentation,
            has_unlabeled=bool(dataset.num_unlabeled),
        )
        compiled = jax.jit(prepare_batch(prepare, batches, placement))
        variables = None if teacher is None else placement.put(teacher.variables)
        constants = variables, batches.split
        self._key = key = data_key_of(jax.random.key(views.data_seed or 0))

        def show(step, order):
            taken = take(compiled(key, jnp.int32(step), constants, order))
            jax.tree.map(lambda x: x.copy_to_host_async(), taken)
            return taken

        self._show = batches.supply(Stage(show, show)).advance

    def feeding(self) -> contextlib.AbstractContextManager:
        """Return a context around all use: at its end, workers are stopped."""
        return self._batches.feeding()

    def epoch(self, number: int) -> Iterator[PyTree]:
        """Yield what is taken from each lesson of an epoch, as NumPy arrays."""
        first = number * self.steps_per_epoch
        order = self._batches.order(self._key, first)
        waiting: collections.deque = collections.deque()
        for place in range(self.steps_per_epoch):
            waiting.append((place, self._show(first + place, order)))
            if len(waiting) > _AHEAD:
                yield self._fetch(*waiting.popleft())
        while waiting:
            yield self._fetch(*waiting.popleft())

    def _fetch(self, place: int, taken: PyTree) -> PyTree:
        """Wait for a batch. The last one of clean images is not filled up."""
        views = self._views
        rows = views.batch_size
        if views.clean:
            rows = min(rows, views.rows - place * rows)
        return jax.tree.map(lambda x: np.asarray(x)[:rows], taken)


def training_views(
    dataset: ImageDataset,
    *,
    epochs: int,
    batch_size: int = 64,
    data_seed: int = 0,
    augmentation: Augmentation | None = None,
    first_epoch: int = 0,
) -> Iterator[Iterator[np.ndarray]]:
    """Yield the images that a training run shows its student, epoch by epoch.

    Show them to a teacher of another framework, and store its answers with
    :func:`jaxkd.recordings.create`.

    Args:
        dataset: The dataset.
        epochs: Epochs of the run, including epochs of pretraining; 0 for the images
            without augmentation, in the order of their rows, as a single epoch.
        batch_size: Examples in a batch of the run.
        data_seed: The seed of order and augmentation of the run.
        augmentation: The augmentation of the run. By default it is the dataset's.
        first_epoch: The epoch to begin with, such as ``writer.next_epoch``.

    Yields:
        For each epoch, an iterator over its batches, NHWC, as the dataset stores
        images: uint8, or floats in ``[0, 1]``. They are not normalized.

    Raises:
        InvalidInputError: If a setting is out of range, or ``epochs`` is 0 but the
            images are augmented.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data, training
        >>> split = data.Split(np.zeros((5, 8, 8, 1), np.uint8), np.arange(5))
        >>> dataset = data.ImageDataset("mine", split, split, num_classes=5)
        >>> for epoch in training.training_views(dataset, epochs=0, batch_size=2):
        ...     print([images.shape for images in epoch])
        [(2, 8, 8, 1), (2, 8, 8, 1), (1, 8, 8, 1)]
    """
    _checks.check_at_least(0, first_epoch=first_epoch)
    dataset = as_shown(dataset, epochs, augmentation)
    views = Views.of(dataset, epochs=epochs, batch_size=batch_size, data_seed=data_seed)
    shown = Shown(dataset, views, None, lambda lesson: lesson.images)

    def each() -> Iterator[Iterator[np.ndarray]]:
        with shown.feeding():
            for epoch in range(first_epoch, shown.epochs):
                yield shown.epoch(epoch)

    return each()


def as_shown(
    dataset: ImageDataset, epochs: int, augmentation: Augmentation | None
) -> ImageDataset:
    """Return the dataset with the augmentation of a run.

    Raises:
        InvalidInputError: If the images are augmented, but ``epochs`` is 0.
    """
    if augmentation is not None:
        dataset = dataclasses.replace(dataset, augmentation=augmentation)
    if epochs == 0 and is_on(dataset.augmentation):
        raise InvalidInputError(
            "epochs is 0, which shows the teacher images without augmentation, but "
            f"{dataset.name} is augmented ({describe(dataset.augmentation)}): students "
            "would see other images than their teacher. Give the number of epochs to "
            "train for, or turn augmentation off: --crop-padding 0 --flip False.",
            argument="epochs",
        )
    return dataset


def outputs_of(output: Any, names: Collection[str] = ()) -> dict[str, Any]:
    """Return arrays of a teacher's output by name: ``stages.2``, ``path=blocks.2``.

    Args:
        output: The output.
        names: Names of the arrays to return; by default all.
    """
    named = {"logits": output.logits}
    if output.embedding.shape[-1]:
        named["embedding"] = output.embedding
    for group in ("stages", "preactivations"):
        for i, each in enumerate(getattr(output, group)):
            named[f"{group}.{i}"] = each
    # A function may return layers of its own, under names that no file can have.
    for path, arrays in output.layers.items():
        if len(arrays) == 1 and OUTPUT.fullmatch(f"{LAYER}{path}"):
            named[f"{LAYER}{path}"] = arrays[0]
    return {name: x for name, x in named.items() if not names or name in names}
