"""Image datasets: in memory, memory-mapped, or streamed."""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.data._resized_crop import check_scale
from jaxkd.data._split import Split, checked_split
from jaxkd.data._stream import Streamed, chunks

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
        random_resized_crop: Smallest and largest share of an image's area that a crop
            covers, such as ``(0.08, 1.0)``; it is resized to the image's size. It
            replaces the crop of the padded image. None for no such crop.
    """

    crop_padding: int = 0
    flip: bool = False
    randaugment: RandAugment | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    random_resized_crop: tuple[float, float] | None = None


_NO_AUGMENTATION = Augmentation()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """A validated image-classification dataset.

    Labels are converted to int32, and floating-point images to float32. Floating-point
    images lie in 0 to 1, before normalization, as uint8 images do after a division by
    255.

    Attributes:
        name: Name in messages and reports.
        train: Training split.
        test: Split that the accuracy is measured on.
        num_classes: Number of classes; labels lie in ``[0, num_classes)``.
        class_names: One name per class; the class numbers by default.
        augmentation: Augmentation recommended for this dataset.
        fingerprint: Identifies the contents in the files of a run, such as source and
            version; by default a checksum of the arrays.
        doubts: Probable mistakes, one sentence each, such as classes without test
            images.
        validation: Split to choose settings and epochs by, such as training images that
            :func:`hold_out` has taken out of ``train``; None for none.
        num_unlabeled: Number of training rows without a label, which have the label -1.
            :func:`with_unlabeled` adds them; without it, all rows have a label.

    Raises:
        InvalidInputError: If a split is empty, its arrays have different numbers of
            rows, the axes are in another order, an image is not finite or not in 0 to
            1, a label is out of range, or the augmentation does not fit the images.

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
    doubts: tuple[str, ...] = ()
    validation: Split | None = None
    num_unlabeled: int = 0

    def __repr__(self) -> str:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = (f"{k}={len(x.labels)}" for k, x in parts.items() if x is not None)
        return (
            f"ImageDataset({self.name!r}, {', '.join(rows)}, "
            f"image_shape={self.image_shape}, num_classes={self.num_classes})"
        )

    def __post_init__(self):
        _checks.check_at_least(1, num_classes=self.num_classes)
        parts = ("train", "test", *(() if self.validation is None else ("validation",)))
        for part in parts:
            images, labels = getattr(self, part)
            split = checked_split(
                images,
                labels,
                num_classes=self.num_classes,
                images_name=f"{self.name}: {part}.images",
                labels_name=f"{self.name}: {part}.labels",
                num_unlabeled=self.num_unlabeled if part == "train" else 0,
            )
            object.__setattr__(self, part, split)
        for part in parts[1:]:
            self._check_like_training(part)
        self._check_augmentation()
        class_names = self.class_names or map(str, range(self.num_classes))
        object.__setattr__(self, "class_names", tuple(class_names))
        if len(self.class_names) != self.num_classes:
            raise InvalidInputError(
                f"{self.name}: class_names must contain {self.num_classes} names, "
                f"got {len(self.class_names)}",
                argument="class_names",
            )
        if not self.fingerprint:
            arrays = [array for part in parts for array in getattr(self, part)]
            object.__setattr__(self, "fingerprint", fingerprint_of(*arrays))

    def _check_like_training(self, part: str):
        ours, theirs = self.train.images, getattr(self, part).images
        for name, mine, other in (
            ("shape", ours.shape[1:], theirs.shape[1:]),
            ("dtype", ours.dtype, theirs.dtype),
        ):
            if mine != other:
                raise InvalidInputError(
                    f"{self.name}: training and {part} images must have the same "
                    f"{name}, got {mine} and {other}",
                    argument=part,
                )

    def _check_augmentation(self):
        padding, side = self.augmentation.crop_padding, min(self.image_shape[:2])
        _checks.check_at_least(0, crop_padding=padding)
        if (scale := self.augmentation.random_resized_crop) is not None:
            check_scale(scale, padding)
        if padding > side:
            raise InvalidInputError(
                f"crop_padding must be at most {side}, the size of the images of "
                f"{self.name}, got {padding}: larger crops would show nothing but "
                "padding",
                argument="crop_padding",
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


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
        InvalidInputError: If ``n`` is less than 1 or exceeds the number of rows, the
            seed is negative, or there are unlabeled images.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> split = data.Split(np.zeros((90, 8, 8, 1), np.uint8), np.arange(90) % 3)
        >>> dataset = data.ImageDataset("mine", split, split, num_classes=3)
        >>> np.bincount(data.take_subset(dataset, 30).train.labels)
        array([10, 10, 10])
    """
    labels = dataset.train.labels
    _checks.check_at_least(1, n=n)
    _checks.check_at_least(0, seed=seed)
    if dataset.num_unlabeled:
        raise InvalidInputError(
            f"{dataset.name} has {dataset.num_unlabeled:,} unlabeled images, which "
            "have no class; take the subset first, and add them afterwards",
            argument="dataset",
        )
    if n > len(labels):
        raise InvalidInputError(
            f"n must be at most {len(labels)}, the number of training rows of "
            f"{dataset.name}, got {n}",
            argument="n",
        )
    counts = np.bincount(labels, minlength=dataset.num_classes)
    kept = draw_rows(labels, shares(counts, n), seed)
    return dataclasses.replace(
        dataset,
        train=take_rows(dataset.train, kept),
        fingerprint=f"{dataset.fingerprint}, {n} of {len(labels)} rows, seed {seed}",
    )


def shares(counts: np.ndarray, n: int) -> np.ndarray:
    """Divide ``n`` rows over classes in proportion to their counts.

    This is the method of largest remainders: round down, then hand the rest to the
    largest fractions.
    """
    share = counts * n / counts.sum()
    sizes = np.floor(share).astype(int)
    largest = np.argsort(sizes - share, kind="stable")
    sizes[largest[: n - sizes.sum()]] += 1
    return sizes


def draw_rows(labels: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """Draw this many rows of each class at random, and return them in order."""
    random = np.random.default_rng(seed)
    rows = [
        random.choice(np.flatnonzero(labels == label), size, replace=False)
        for label, size in enumerate(sizes)
        if size
    ]
    return np.sort(np.concatenate(rows))


def take_rows(split: Split, rows: np.ndarray) -> Split:
    """Select rows of a split; streamed images are not read."""
    images, labels = split
    if isinstance(images, Streamed):
        return Split(images.take(rows), labels[rows])
    return Split(images[rows], labels[rows])
