"""Recording teachers: whether a recording fits the run that uses it."""

from typing import Any

import jax
import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data import Augmentation, ImageDataset
from jaxkd.distillers import Distiller
from jaxkd.recordings import Recording
from jaxkd.training._state import LoopState, data_key_of


def check_images(
    recording: Recording,
    distiller: Distiller,
    dataset: ImageDataset,
    *,
    augmentation: Augmentation,
    batch_size: int,
    data_seed: int | None = None,
    epochs: int | None = None,
) -> None:
    """Check that a recording has the teacher's outputs for the images of a run.

    Args:
        recording: The recording.
        distiller: The objective.
        dataset: The dataset.
        augmentation: The augmentation of its images.
        batch_size: Examples in a batch.
        data_seed: The seed of order and augmentation; None if it is not known yet.
        epochs: Length of the run, with pretraining; None if it is not known yet.

    Raises:
        InvalidInputError: If it has not; the message names both values.
    """
    if distiller.views is not None:
        raise InvalidInputError(
            "distiller asks the teacher about views of the images, such as rotated "
            f"ones, and {recording.path} contains no outputs for them. Use the "
            "teacher's network.",
            argument="distiller",
        )
    views = recording.views
    recording.check(
        dataset,
        augmentation=augmentation,
        batch_size=batch_size,
        data_seed=(views.data_seed or 0) if data_seed is None else data_seed,
        epochs=views.epochs if epochs is None else epochs,
    )


def check_state(recording: Recording, loop: LoopState) -> None:
    """Check that a state has the recording's order and augmentation.

    Raises:
        InvalidInputError: If the data seeds differ.
    """
    if (seed := recording.views.data_seed) is None:
        return
    recorded = data_key_of(jax.random.key(seed))
    if not np.array_equal(_bits(recorded), _bits(loop.train.data_key)):
        raise InvalidInputError(
            f"loop has another data seed than the recording {recording.path}, which "
            f"has data seed {seed}: the teacher saw other images. Start with "
            f"program.start(seed, data_seed={seed}).",
            argument="loop",
        )


def _bits(key: Any) -> np.ndarray:
    return np.array(jax.random.key_data(key))
