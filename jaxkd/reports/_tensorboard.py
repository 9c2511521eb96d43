"""Images in TensorBoard, beside the scalars of :class:`jaxkd.runs.MetricsWriter`."""

import io
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.reports import _figures, _thumbnails
from jaxkd.runs import RunFolder

_MIN_SIDE = 48  # pixels; smaller images are magnified
_COUNT = 64


def write_training_images(run: Path, dataset: data.ImageDataset, seed: int) -> None:
    """Write some training images as they are augmented, before normalization.

    Args:
        run: The run folder.
        dataset: The run's dataset.
        seed: Seed of the choice of images and of their augmentation.
    """
    images, labels = dataset.train
    random = np.random.default_rng(seed)
    count = min(_COUNT, len(labels))
    rows = np.sort(random.choice(len(labels), count, replace=False))
    chosen = np.concatenate([np.asarray(images[i : i + 1]) for i in rows.tolist()])
    augmented = data.augment(jax.random.key(seed), chosen, dataset.augmentation)
    picture = _thumbnails.grid(np.asarray(augmented))
    scale = max(1, _MIN_SIDE // max(chosen.shape[1:3]))
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    _write(run, "training images, augmented", picture, step=0)


def write_confusion_matrix(
    run: Path, matrix: np.ndarray, class_names: Sequence[str], step: int
) -> None:
    """Write the confusion matrix of the test set.

    Args:
        run: The run folder.
        matrix: From :func:`confusion_matrix`.
        class_names: Names of the classes.
        step: Training step of the network.
    """
    picture = _figures.confusion_image(matrix, class_names)
    _write(run, "confusion matrix", picture, step=step)


def _write(run: Path, tag: str, picture: np.ndarray, *, step: int) -> None:
    """Add an event file with one image, uint8 of 1 or 3 channels."""
    from tensorboardX.event_file_writer import EventsWriter  # slow to import
    from tensorboardX.proto import event_pb2

    event: Any = event_pb2
    height, width, channels = picture.shape
    file = io.BytesIO()
    shown = picture[..., 0] if channels == 1 else picture
    Image.fromarray(shown).save(file, format="PNG")
    image = {
        "height": height,
        "width": width,
        "colorspace": channels,
        "encoded_image_string": file.getvalue(),
    }
    # TensorBoard reads the event files of a folder in order, and ignores scalars of
    # one file after the next begins. Images therefore have their own folder.
    folder = RunFolder(run).images
    if folder.is_symlink():
        raise InvalidInputError(
            f"{folder} is a link. Replace it by a folder, so that the images are "
            "written into the run folder.",
            argument="run",
        )
    folder.mkdir(exist_ok=True)
    # Files are named after the second in which they are created.
    prefix = str(RunFolder(folder).events)
    writer = EventsWriter(prefix, f".{uuid.uuid4().hex[:8]}")
    value = {"tag": tag, "image": image}
    writer.write_event(
        event.Event(wall_time=time.time(), step=step, summary={"value": [value]})
    )
    writer.close()
