"""Image datasets: in memory, memory-mapped, or streamed."""

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

# A mirrored character is another character, or none.
_CHARACTER_DATASETS = frozenset(
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
    """Images and labels of one part of a dataset.

    Attributes:
        images: uint8 (0 to 255) or float32, [rows, height, width, channels]; an array
            or :class:`Streamed`.
        labels: int32 class numbers, [rows].
    """

    images: np.ndarray | Streamed
    labels: np.ndarray


class RandAugment(NamedTuple):
    """Settings of :func:`randaugment`.

    Attributes:
        operations: Number of operations applied to each image.
        magnitude: Strength of the operations, 0 to 10.
    """

    operations: int = 2
    magnitude: float = 9.0


class Augmentation(NamedTuple):
    """Settings of :func:`augment` and :func:`mix` for training batches.

    Attributes:
        crop_padding: Zero pixels added on each side before a random crop of the
            original size; 0 for no crop.
        flip: Whether to flip each image horizontally with probability 1/2.
        randaugment: Settings of RandAugment, which is applied last; None for none.
        mixup: Parameter of mixup's Beta distribution; 0 for no mixup.
        cutmix: Parameter of CutMix's Beta distribution; 0 for no CutMix.
    """

    crop_padding: int = 0
    flip: bool = False
    randaugment: RandAugment | None = None
    mixup: float = 0.0
    cutmix: float = 0.0


_NO_AUGMENTATION = Augmentation()


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A validated image-classification dataset.

    Labels are converted to int32, and floating-point images to float32.

    Attributes:
        name: Name in messages and reports.
        train: Training split.
        test: Split that the accuracy is measured on.
        num_classes: Number of classes; labels lie in ``[0, num_classes)``.
        class_names: One name per class; the class numbers by default.
        augmentation: Augmentation recommended for this dataset.
        fingerprint: Identifies the contents in the files of a run, such as source and
            version; by default a checksum of the arrays.

    Raises:
        InvalidInputError: If a split is empty, its arrays have different numbers of
            rows, an image is not finite, or a label is out of range.

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
                f"{self.train.images.shape[1:]} and {self.test.images.shape[1:]}",
                argument="test",
            )
        if self.train.images.dtype != self.test.images.dtype:
            raise InvalidInputError(
                f"{self.name}: training and test images must have the same dtype, got "
                f"{self.train.images.dtype} and {self.test.images.dtype}",
                argument="test",
            )
        class_names = self.class_names or map(str, range(self.num_classes))
        object.__setattr__(self, "class_names", tuple(class_names))
        if len(self.class_names) != self.num_classes:
            raise InvalidInputError(
                f"{self.name}: class_names must contain {self.num_classes} names, "
                f"got {len(self.class_names)}",
                argument="class_names",
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
    """Check the arrays of a split and convert them to their final dtypes.

    Args:
        images: Images of the split.
        labels: Labels of the split.
        num_classes: Number of classes.
        images_name: Name of the images in error messages.
        labels_name: Name of the labels in error messages.

    Returns:
        The split; labels are int32, and images uint8, float32 or streamed.

    Raises:
        InvalidInputError: If an array cannot be used; the message starts with its name.
    """
    labels = np.asanyarray(labels)
    if not isinstance(images, Streamed):
        images = np.asanyarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise InvalidInputError(
            f"{images_name} must be a non-empty array [rows, height, width, channels], "
            f"got shape {images.shape}",
            argument="images",
        )
    if labels.shape != images.shape[:1]:
        raise InvalidInputError(
            f"{labels_name} must contain one class number for each of the "
            f"{images.shape[0]} images, got shape {labels.shape}",
            argument="labels",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(
            f"{labels_name} must be integers, got dtype {labels.dtype}",
            argument="labels",
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= num_classes:
        raise InvalidInputError(
            f"{labels_name} must lie in [0, {num_classes - 1}] for {num_classes} "
            f"classes, got {low} to {high}",
            argument="labels",
        )
    if not isinstance(images, Streamed) and images.dtype != np.uint8:
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InvalidInputError(
                f"{images_name} must be uint8 or floating point, "
                f"got dtype {images.dtype}",
                argument="images",
            )
        # Values beyond the range of float32 become infinite and are rejected below.
        with np.errstate(over="ignore"):
            images = images.astype(np.float32, copy=False)
        start = 0
        for chunk in chunks(images):
            if not np.isfinite(chunk).all():
                row = start + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))
                raise InvalidInputError(
                    f"{images_name} must be finite, got NaN or infinity in row {row}",
                    argument="images",
                )
            start += len(chunk)
    return Split(images, labels.astype(np.int32, copy=False))


def chunks(images: np.ndarray | Streamed) -> Iterator[np.ndarray]:
    """Yield consecutive rows, about a million values at a time."""
    rows = max(1, 2**20 // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def fingerprint_of(*arrays: np.ndarray | Streamed) -> str:
    """Return a checksum of contents, shapes and dtypes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        for part in chunks(array) if isinstance(array, Streamed) else [array]:
            digest.update(np.ascontiguousarray(part).data)
    return f"sha256:{digest.hexdigest()[:16]}"


def default_augmentation(name: str, image_shape: tuple[int, ...]) -> Augmentation:
    """Pad crops by a sixth of the size, at most 4; flip all except characters."""
    height, width, _ = image_shape
    family = name.split("/")[0].split(":")[0]
    return Augmentation(
        crop_padding=max(1, min(4, min(height, width) // 6)),
        flip=family not in _CHARACTER_DATASETS,
    )


def take_subset(dataset: ImageDataset, n: int, seed: int = 0) -> ImageDataset:
    """Select ``n`` training examples with the same class proportions as the whole set.

    Each class gets its share of ``n``, rounded up or down. The test split is unchanged.

    Args:
        dataset: Dataset to select from.
        n: Number of training examples to keep.
        seed: Seed of the selection; the same seed selects the same rows.

    Returns:
        A dataset whose fingerprint identifies the subset.

    Raises:
        InvalidInputError: If ``n`` is less than 1 or exceeds the number of rows, or the
            seed is negative.

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
    _checks.check_at_least(0, seed=seed)
    if n > len(labels):
        raise InvalidInputError(
            f"n must be at most {len(labels)}, the number of training rows of "
            f"{dataset.name}, got {n}",
            argument="n",
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
