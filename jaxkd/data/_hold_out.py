"""Hold training images out for validation."""

import dataclasses

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._text import count
from jaxkd.data._dataset import ImageDataset, draw_rows, shares, take_rows

_MOST_NAMES = 3  # in a message


def hold_out(dataset: ImageDataset, fraction: float, seed: int = 0) -> ImageDataset:
    """Move a share of the training images to a validation split.

    Epochs and settings can be chosen by the accuracy on these images, so that the test
    images stay unseen. Each class gives its share, rounded up or down, but keeps at
    least one training image. The test split is unchanged. Everything that is computed
    from the training images, such as their normalization and memory banks, is computed
    from the remaining ones.

    Args:
        dataset: Dataset without a validation split.
        fraction: Share of the training images to hold out, between 0 and 1.
        seed: Seed of the selection; the same seed selects the same rows.

    Returns:
        A dataset with :attr:`ImageDataset.validation`, whose fingerprint identifies the
        rows. If classes are too small to have validation images, a sentence in
        ``doubts`` names them.

    Raises:
        InvalidInputError: If the fraction is not between 0 and 1, no image would be
            held out, the dataset has a validation split, or the seed is negative.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> split = data.Split(np.zeros((90, 8, 8, 1), np.uint8), np.arange(90) % 3)
        >>> dataset = data.ImageDataset("mine", split, split, num_classes=3)
        >>> dataset = data.hold_out(dataset, 0.1)
        >>> dataset
        ImageDataset('mine', train=81, validation=9, test=90, image_shape=(8, 8, 1),
        num_classes=3)
        >>> np.bincount(dataset.train.labels)
        array([27, 27, 27])
    """
    _checks.check_at_least(0, seed=seed)
    _checks.check_fraction(fraction=fraction)
    if dataset.validation is not None:
        raise InvalidInputError(
            f"{dataset.name} has {count(len(dataset.validation.labels), 'image')} for "
            "validation already. Use them, or load the dataset again.",
            argument="dataset",
        )
    labels = dataset.train.labels
    counts = np.array([np.sum(labels == c) for c in range(dataset.num_classes)])
    wanted = round(fraction * int(counts.sum()))
    sizes = np.minimum(shares(counts, wanted), np.maximum(counts - 1, 0))
    if not sizes.sum():
        raise InvalidInputError(
            f"fraction is {fraction:g}, but no class of {dataset.name} would have a "
            f"validation image: it has {count(len(labels), 'training image')}, of "
            f"which the largest class has {counts.max()}. Hold a larger share out.",
            argument="fraction",
        )
    held_out = draw_rows(labels, sizes, seed)
    remaining = np.setdiff1d(np.arange(len(labels)), held_out)
    return dataclasses.replace(
        dataset,
        train=take_rows(dataset.train, remaining),
        validation=take_rows(dataset.train, held_out),
        fingerprint=f"{dataset.fingerprint}, {len(held_out)} of {len(labels)} rows "
        f"held out, seed {seed}",
        doubts=(*dataset.doubts, *_without_images(dataset, counts, sizes)),
    )


def _without_images(
    dataset: ImageDataset, counts: np.ndarray, sizes: np.ndarray
) -> list[str]:
    """Return a sentence if classes have training but no validation images."""
    lacking = [
        dataset.class_names[c] for c in np.flatnonzero((counts > 0) & (sizes == 0))
    ]
    if not lacking:
        return []
    names = ", ".join(map(repr, lacking[:_MOST_NAMES]))
    more = ", ..." if len(lacking) > _MOST_NAMES else ""
    return [
        f"{len(lacking)} of {count(dataset.num_classes, 'class', 'classes')} of "
        f"{dataset.name} have too few training images to hold one out for validation: "
        f"{names}{more}"
    ]
