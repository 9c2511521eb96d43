"""Small recordings that the tests share."""

import dataclasses

import numpy as np
from support import make_dataset

from jaxkd import data, recordings

ON = data.Augmentation(crop_padding=1, flip=True)
BATCH = 16
DATASET = dataclasses.replace(make_dataset(), augmentation=ON)
NAMES = DATASET.class_names


def views_of(epochs, *, dataset=DATASET, batch_size=BATCH, data_seed=3):
    return recordings.Views.of(
        dataset, epochs=epochs, batch_size=batch_size, data_seed=data_seed
    )


def draw(epochs, *, seed=0, scale=3.0, shape=(4,)):
    """Return random outputs ``[epochs, rows of an epoch, ...]``."""
    views = views_of(epochs)
    rng = np.random.default_rng(seed)
    rows = max(1, epochs), views.rows_per_epoch
    return rng.normal(0, scale, (*rows, *shape)).astype(np.float32)


def record(path, epochs, outputs, *, until=None, views=None, **settings):
    """Record arrays ``[epochs, rows, ...]`` by the names of outputs, batch by batch."""
    classifier, rows = settings.pop("classifier", None), settings.pop("rows", None)
    views = views or views_of(epochs)
    settings = {"class_names": NAMES} | settings
    with recordings.create(path, views, **settings) as writer:
        last = max(1, epochs) if until is None else until
        for epoch in range(writer.next_epoch, last):
            writer.begin_epoch()
            for start in range(0, views.rows_per_epoch, BATCH):
                part = slice(start, start + BATCH)
                writer.append(
                    {name: x[epoch, part] for name, x in outputs.items()},
                    rows=None if rows is None else rows[epoch, part],
                )
            writer.end_epoch()
        if until is None:
            writer.finish(classifier)


def recorded(path, epochs=0, **settings):
    """Record random logits, and open them."""
    record(path, epochs, {"logits": draw(epochs)}, **settings)
    return recordings.open(path)


def tree_of(folder):
    """Return all files below a folder with their contents."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
