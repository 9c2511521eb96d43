"""Images beside the scalars in TensorBoard."""

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
from jaxkd.reports import _charts, _thumbnails

# TensorBoard takes the event files of one folder for one after the other, and stops
# reading scalars where another file begins. So images have a folder of their own.
_FOLDER = "images"
_SIDE = 48  # pixels that a small image is magnified to
_COUNT = 64


def write_batch(run: Path, dataset: data.ImageDataset, seed: int) -> None:
    """Writes training images as the networks see them: augmented, not normalised."""
    images, labels = dataset.train
    random = np.random.default_rng(seed)
    count = min(_COUNT, len(labels))
    rows = np.sort(random.choice(len(labels), count, replace=False))
    chosen = np.concatenate([np.asarray(images[i : i + 1]) for i in rows.tolist()])
    augmented = data.augment(jax.random.key(seed), chosen, dataset.augmentation)
    picture = _thumbnails.grid(np.asarray(augmented))
    scale = max(1, _SIDE // max(chosen.shape[1:3]))
    picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    _write(run, "training images, augmented", picture, step=0)


def write_confusion(
    run: Path, matrix: np.ndarray, class_names: Sequence[str], step: int
) -> None:
    """Writes the confusion matrix on the test set."""
    picture = _charts.confusion_picture(matrix, class_names)
    _write(run, "confusion matrix", picture, step=step)


def _write(run: Path, tag: str, picture: np.ndarray, *, step: int) -> None:
    """Appends an event file of one image, uint8 of 1 or 3 channels."""
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
    (run / _FOLDER).mkdir(exist_ok=True)
    # Files are named after the second in which they begin.
    writer = EventsWriter(str(run / _FOLDER / "events"), f".{uuid.uuid4().hex[:8]}")
    value = {"tag": tag, "image": image}
    writer.write_event(
        event.Event(wall_time=time.time(), step=step, summary={"value": [value]})
    )
    writer.close()
