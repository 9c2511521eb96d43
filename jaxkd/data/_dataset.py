"""Datasets of images: in memory, in a memory-mapped file, or streamed."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data._stream import Streamed

# Written characters do not survive mirroring.
_NEVER_FLIPPED = frozenset(
    {
        "binarized_mnist",
        "cmaterdb",
        "digits",
        "emnist",
        "kmnist",
        "mnist",
        "mnist_corrupted",
        "omniglot",
        "svhn_cropped",
    }
)


class Split(NamedTuple):
    """One part of a dataset.

    Attributes:
        images: uint8 (0 to 255) or float32, [rows, height, width, channels]; an array,
            or streamed.
        labels: int32 class numbers, [rows].
    """

    images: np.ndarray | Streamed
    labels: np.ndarray


class RandAugment(NamedTuple):
    """Settings of :func:`randaugment`.

    Attributes:
        operations: How many each image goes through.
        magnitude: How strong they are, 0 to 10.
    """

    operations: int = 2
    magnitude: float = 9.0


class Augmentation(NamedTuple):
    """What :func:`augment` and :func:`mix` do to a training batch.

    Attributes:
        crop_padding: Zero pixels added on each side before a crop of the original
            size; 0 for none.
        flip: Whether each image is mirrored left to right with probability 1/2.
        randaugment: Random operations afterwards, if any.
        mixup: Parameter of mixup's Beta distribution; 0 for none.
        cutmix: Parameter of CutMix's Beta distribution; 0 for none.
    """

    crop_padding: int = 0
    flip: bool = False
    randaugment: RandAugment | None = None
    mixup: float = 0.0
    cutmix: float = 0.0


_NO_AUGMENTATION = Augmentation()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A checked image-classification dataset.

    Labels become int32; floating images of another width become float32.

    Attributes:
        name: For messages and reports.
        train: The training split.
        test: The split that accuracy is measured on.
        num_classes: Labels lie in ``[0, num_classes)``.
        class_names: One name per class; the numbers if not given.
        augmentation: The augmentation that suits the dataset.
        fingerprint: Identifies the contents in a run's record: source and version, or
            a checksum of the arrays if not given.

    Raises:
        InvalidInputError: If a split is empty, its arrays do not fit together, an
            image is not finite, or a label is out of range.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> split = data.Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4))
        >>> dataset = data.ImageDataset("mine", split, split, num_classes=4)
        >>> dataset.image_shape, dataset.class_names
        ((8, 8, 1), ('0', '1', '2', '3'))
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...] = ()
    augmentation: Augmentation = _NO_AUGMENTATION
    fingerprint: str = ""

    def __post_init__(self):
        _checks.check_at_least(1, num_classes=self.num_classes)
        for part in ("train", "test"):
            images, labels = getattr(self, part)
            split = checked_split(
                images,
                labels,
                num_classes=self.num_classes,
                images_name=f"{self.name}: {part}.images",
                labels_name=f"{self.name}: {part}.labels",
            )
            object.__setattr__(self, part, split)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise InvalidInputError(
                f"{self.name}: training and test images must have the same shape, got "
                f"{self.train.images.shape[1:]} and {self.test.images.shape[1:]}"
            )
        if self.train.images.dtype != self.test.images.dtype:
            raise InvalidInputError(
                f"{self.name}: training and test images must have the same dtype, got "
                f"{self.train.images.dtype} and {self.test.images.dtype}"
            )
        class_names = self.class_names or map(str, range(self.num_classes))
        object.__setattr__(self, "class_names", tuple(class_names))
        if len(self.class_names) != self.num_classes:
            raise InvalidInputError(
                f"{self.name}: class_names must hold {self.num_classes} names, "
                f"got {len(self.class_names)}"
            )
        if not self.fingerprint:
            object.__setattr__(
                self, "fingerprint", fingerprint_of(*self.train, *self.test)
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def checked_split(
    images: np.ndarray | Streamed,
    labels: np.ndarray,
    *,
    num_classes: int,
    images_name: str,
    labels_name: str,
) -> Split:
    """Checks the arrays of a split and converts them to their final dtypes.

    Raises:
        InvalidInputError: If they cannot be used; the message starts with the name.
    """
    labels = np.asanyarray(labels)
    if not isinstance(images, Streamed):
        images = np.asanyarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise InvalidInputError(
            f"{images_name} must be a non-empty [rows, height, width, channels], "
            f"got shape {images.shape}"
        )
    if labels.shape != images.shape[:1]:
        raise InvalidInputError(
            f"{labels_name} must hold one class number for each of the "
            f"{images.shape[0]} images, got shape {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(
            f"{labels_name} must be integers, got dtype {labels.dtype}"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= num_classes:
        raise InvalidInputError(
            f"{labels_name} must lie in [0, {num_classes - 1}] for {num_classes} "
            f"classes, got {low} to {high}"
        )
    if not isinstance(images, Streamed) and images.dtype != np.uint8:
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InvalidInputError(
                f"{images_name} must be uint8 or floating point, "
                f"got dtype {images.dtype}"
            )
        # Not finite afterwards: neither is what float32 cannot hold.
        with np.errstate(over="ignore"):
            images = images.astype(np.float32, copy=False)
        start = 0
        for chunk in chunks(images):
            if not np.isfinite(chunk).all():
                row = start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))
                raise InvalidInputError(
                    f"{images_name} must be finite, got NaN or infinity in row {row}"
                )
            start += len(chunk)
    return Split(images, labels.astype(np.int32, copy=False))


def chunks(images: np.ndarray | Streamed) -> Iterator[np.ndarray]:
    """Yields consecutive rows, about a million values at a time."""
    rows = max(1, 2**20 // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def fingerprint_of(*arrays: np.ndarray | Streamed) -> str:
    """A checksum of contents, shapes and dtypes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        for part in chunks(array) if isinstance(array, Streamed) else [array]:
            digest.update(np.ascontiguousarray(part).data)
    return f"sha256:{digest.hexdigest()[:16]}"


def default_augmentation(name: str, image_shape: tuple[int, ...]) -> Augmentation:
    """Pads crops by a sixth of the image, at most 4; flips all but characters."""
    height, width, _ = image_shape
    family = name.split("/")[0].split(":")[0]
    return Augmentation(
        crop_padding=max(1, min(4, min(height, width) // 6)),
        flip=family not in _NEVER_FLIPPED,
    )


def take_subset(dataset: ImageDataset, n: int, seed: int = 0) -> ImageDataset:
    """Keeps ``n`` training examples with the class proportions of all.

    Each class gets its share of ``n``, rounded up or down; the test split stays whole.

    Args:
        dataset: The dataset to take from.
        n: Number of training examples to keep.
        seed: Which of the subsets; the same seed gives the same rows.

    Returns:
        A dataset whose fingerprint tells the subset.

    Raises:
        InvalidInputError: If ``n`` is below 1 or above the number of rows.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> split = data.Split(np.zeros((90, 8, 8, 1), np.uint8), np.arange(90) % 3)
        >>> dataset = data.ImageDataset("mine", split, split, num_classes=3)
        >>> np.bincount(data.take_subset(dataset, 30).train.labels)
        array([10, 10, 10])
    """
    images, labels = dataset.train
    _checks.check_at_least(1, n=n)
    if n > len(labels):
        raise InvalidInputError(
            f"n must be at most {len(labels)}, the rows of {dataset.name}, got {n}"
        )
    # Largest remainders: round down, then hand the rest to the largest fractions.
    share = np.bincount(labels, minlength=dataset.num_classes) * n / len(labels)
    sizes = np.floor(share).astype(int)
    largest = np.argsort(sizes - share, kind="stable")
    sizes[largest[: n - sizes.sum()]] += 1
    random = np.random.default_rng(seed)
    rows = [
        random.choice(np.flatnonzero(labels == label), size, replace=False)
        for label, size in enumerate(sizes)
        if size
    ]
    kept = np.sort(np.concatenate(rows))
    return dataclasses.replace(
        dataset,
        train=Split(
            images.take(kept) if isinstance(images, Streamed) else images[kept],
            labels[kept],
        ),
        fingerprint=f"{dataset.fingerprint}, {n} of {len(labels)} rows, seed {seed}",
    )
