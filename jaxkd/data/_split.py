"""One split of a dataset, and the checks of its images and labels."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._text import array_type
from jaxkd.data._labels import UNLABELED
from jaxkd.data._range import check_unit_range, dtype_error
from jaxkd.data._stream import Streamed, chunks

_CHANNELS = (1, 3, 4)


class Split(NamedTuple):
    """Images and labels of one part of a dataset.

    Attributes:
        images: uint8 (0 to 255) or float32 (0 to 1), [rows, height, width, channels];
            an array or :class:`Streamed`.
        labels: int32 class numbers, [rows].
    """

    images: np.ndarray | Streamed
    labels: np.ndarray

    def __repr__(self) -> str:
        images, labels = array_type(self.images), array_type(self.labels)
        return f"Split(images={images}, labels={labels})"


def checked_split(
    images: np.ndarray | Streamed,
    labels: np.ndarray,
    *,
    num_classes: int,
    images_name: str,
    labels_name: str,
    num_unlabeled: int = 0,
) -> Split:
    """Check the arrays of a split and convert them to their final dtypes.

    Args:
        images: Images of the split.
        labels: Labels of the split.
        num_classes: Number of classes.
        images_name: Name of the images in error messages.
        labels_name: Name of the labels in error messages.
        num_unlabeled: Number of rows without a label, which have the label -1.

    Returns:
        The split; labels are int32, and images uint8, float32 or streamed.

    Raises:
        InvalidInputError: If an array cannot be used; the message starts with its name.
    """
    labels = np.asanyarray(labels)
    if not isinstance(images, Streamed):
        images = np.asanyarray(images)
    _check_layout(images.shape, len(labels) if labels.ndim else 0, images_name)
    labels = _checked_labels(
        labels, images.shape[0], num_classes, labels_name, num_unlabeled
    )
    if not isinstance(images, Streamed) and images.dtype != np.uint8:
        images = _checked_floats(images, images_name)
    return Split(images, labels)


def _check_layout(shape: tuple[int, ...], count: int, name: str) -> None:
    """Raise unless a shape is that of ``count`` images, channels last."""
    remedy = None
    if len(shape) == 4 and 0 not in shape:
        remedy = _remedy_for_axes(shape, count)
        if remedy is None:
            return
    elif len(shape) == 3:
        remedy = "add the axis of the channels with x[..., None]"
    elif len(shape) == 2 and shape[0] == count:
        remedy = _remedy_for_flat_rows(shape[1])
    more = f": {remedy}" if remedy else ""
    raise InvalidInputError(
        f"{name} must be a non-empty array [rows, height, width, channels], "
        f"got shape {shape}{more}",
        argument="images",
    )


def _remedy_for_axes(shape: tuple[int, ...], count: int) -> str | None:
    """Return how to reorder the axes of images; None if their order is right."""
    first, second, third, last = shape
    if count not in (0, first, *_CHANNELS) and count == last:  # MATLAB's, as in SVHN.
        if third in _CHANNELS:
            return f"the {count} rows are the last axis; use np.moveaxis(x, -1, 0)"
        if first in _CHANNELS:
            return (
                f"the {count} rows are the last axis; use np.transpose(x, (3, 1, 2, 0))"
            )
    if count not in (0, first) and count == third and last == 1:
        return f"the {count} rows are the third axis; use np.moveaxis(x, 2, 0)"
    if second in _CHANNELS and third not in _CHANNELS and last not in _CHANNELS:
        return "the channels are the second axis; use np.moveaxis(x, 1, -1)"
    return None


def _remedy_for_flat_rows(size: int) -> str | None:
    """Return how to reshape images that are stored as flat rows."""
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if side**2 * channels == size:
            if channels == 1:
                return f"use x.reshape(-1, {side}, {side}, 1)"
            return (
                f"use x.reshape(-1, {side}, {side}, 3), or for rows of planes, as in "
                f"CIFAR, x.reshape(-1, 3, {side}, {side}) and np.moveaxis(x, 1, -1)"
            )
    return None


def _checked_labels(
    labels: np.ndarray, count: int, num_classes: int, name: str, num_unlabeled: int
) -> np.ndarray:
    if labels.shape != (count,):
        remedy = ""
        if labels.ndim == 2 and labels.shape[0] == count:
            use = "y[:, 0]" if labels.shape[1] == 1 else "np.argmax(y, axis=1)"
            kind = "a column" if labels.shape[1] == 1 else "one-hot rows"
            remedy = f": for {kind}, use {use}"
        raise InvalidInputError(
            f"{name} must contain one class number for each of the {count} images, "
            f"got shape {labels.shape}{remedy}",
            argument="labels",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(
            f"{name} must be integers, got dtype {labels.dtype}"
            f"{_remedy_for_labels(labels)}",
            argument="labels",
        )
    if num_unlabeled and (labels == UNLABELED).sum() != num_unlabeled:
        raise InvalidInputError(
            f"{name} must be {UNLABELED} in {num_unlabeled:,} rows, the number of "
            f"unlabeled ones, got {(labels == UNLABELED).sum():,} of them",
            argument="labels",
        )
    used = labels[labels != UNLABELED] if num_unlabeled else labels
    low, high = (used.min(), used.max()) if len(used) else (0, 0)
    if low < 0 or high >= num_classes:
        raise InvalidInputError(
            f"{name} must lie in [0, {num_classes - 1}] for {num_classes} "
            f"classes, got {low} to {high}",
            argument="labels",
        )
    return labels.astype(np.int32, copy=False)


def _remedy_for_labels(labels: np.ndarray) -> str:
    """Return how to convert labels that are not integers to class numbers."""
    if labels.dtype.kind in "USO":
        return (
            ": number the classes with names = np.unique(y_train) and "
            "np.searchsorted(names, y), and give the names as class_names"
        )
    if labels.dtype.kind not in "bf":
        return ""
    wrong = labels[labels != np.floor(labels)]  # fractions and NaN
    if len(wrong):
        return f": {wrong[0]:g} is no class number; leave such rows out"
    return ": convert them with y.astype(np.int32)"


def _checked_floats(images: np.ndarray, name: str) -> np.ndarray:
    """Convert to float32; check that all values are finite and lie in 0 to 1."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise dtype_error(images, name)
    # Values beyond the range of float32 become infinite and are rejected below.
    with np.errstate(over="ignore"):
        images = images.astype(np.float32, copy=False)
    low, high, start = math.inf, -math.inf, 0
    for chunk in chunks(images):
        smallest, largest = chunk.min(), chunk.max()
        if not (np.isfinite(smallest) and np.isfinite(largest)):
            row = start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))
            raise InvalidInputError(
                f"{name} must be finite, got NaN or infinity in row {row}",
                argument="images",
            )
        low, high = min(low, smallest), max(high, largest)
        start += len(chunk)
    check_unit_range(low, high, name)
    return images
