"""Logits, masks and degenerate inputs that the cases of logit losses share."""

import numpy as np

from zoo._case import Case


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, shape), rng.normal(0.3, 2, shape)


def labels_of(logits, seed=0):
    rng = np.random.default_rng(seed)
    *batch, classes = logits.shape
    return rng.integers(0, classes, batch, dtype=np.int32)


def with_labels(arguments, labels=None):
    return (*arguments, labels_of(arguments[0]) if labels is None else labels)


TWO = draw(4, 6)


THREE = draw(3, 2, 5, seed=1)


# Few rows and many classes: the Gram matrix of the classes is the larger one.
WIDE = draw(5, 9, seed=2)


HUGE = 1e4 * np.random.default_rng(3).integers(-1, 2, (4, 6)).astype(np.float64)


# Every shape is compiled by itself: no more than are needed.
DEGENERATE = {
    "logits of +-1e4": (HUGE, HUGE[::-1]),
    "identical networks": (TWO[0], TWO[0]),
    "equal logits": (np.zeros((4, 6)), np.ones((4, 6))),
    "identical rows": (TWO[0][[0] * 4], TWO[1][[1] * 4]),
    "one class": (TWO[0][:, :1], TWO[1][:, :1]),
    "one example": (TWO[0][:1], TWO[1][:1]),
}


LABELED_DEGENERATE = {
    name: with_labels(arguments, np.zeros(len(arguments[0]), np.int32))
    for name, arguments in DEGENERATE.items()
} | {"labels out of range": with_labels(TWO, np.array([-1, 6, 0, 5], np.int32))}


def mask_of(shape):
    """Rows with some of the classes, one without any and one with all."""
    mask = np.random.default_rng(4).random(shape) > 0.3
    rows = mask.reshape(-1, shape[-1])
    rows[0], rows[-1] = False, True
    return mask


def cases(loss, definition, *, settings, arguments=THREE, degenerate=DEGENERATE):
    """As it comes, and with settings, a mask and, where they are free, more axes."""
    labeled = "labels out of range" in degenerate
    return (
        Case(
            loss,
            definition,
            with_labels(TWO) if labeled else TWO,
            degenerate=degenerate,
        ),
        Case(
            loss,
            definition,
            with_labels(arguments) if labeled else arguments,
            settings={**settings, "where": mask_of(arguments[0].shape)},
            label="masked",
        ),
    )
