"""Load a dataset by name or path."""

import dataclasses
import importlib.resources
import os
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd._files import expand_home
from jaxkd.data._assemble import Loading, load_source
from jaxkd.data._dataset import ImageDataset, Split, default_augmentation
from jaxkd.data._description import Description, Part, count_splits, describe_source
from jaxkd.data._folder import FolderSource
from jaxkd.data._in_memory import select_rows
from jaxkd.data._npz import load_npz
from jaxkd.data._parquet import find_parquet
from jaxkd.data._picture import WHITE
from jaxkd.data._plan import make_plan, with_labeled_test
from jaxkd.data._range import checked_value_range
from jaxkd.data._slices import parse
from jaxkd.data._source import Source
from jaxkd.data._tfds import open_tfds

_DIGITS_TRAIN_ROWS = 1437


def load(
    name: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    stream: bool = False,
    workers: int = 0,
    background: str = "white",
    value_range: tuple[float | int, float | int] | None = None,
    test_resize: int | None = None,
) -> ImageDataset:
    """Load a dataset by name or path.

    ``"digits"`` is a bundled set of 8x8 handwritten digits (UCI Machine Learning
    Repository), 1,437 for training and 360 for testing in a fixed stratified split. It
    needs no network.

    A ``.npz`` file contains the arrays ``x_train``, ``y_train``, ``x_test`` and
    ``y_test`` (Keras's convention) and optionally ``class_names``. Images are uint8 (0
    to 255) or floating point (0 to 1), with the channels last; ``value_range`` maps
    others. Images without a channel axis get one. By default, they are not flipped,
    because a flip may change their class.

    A folder contains images in ``train/CLASS/`` and ``test/CLASS/`` (or
    ``val/CLASS/``), or ``train-*.parquet`` and ``test-*.parquet`` (or ``validation-``)
    with the columns ``image`` and ``label``, as Hugging Face publishes them. If all
    images are gray, they are loaded with one channel, otherwise in color. By default,
    they are not flipped.

    Any other name is a TFDS dataset, ``name[/config][:version]``, that was prepared as
    array_record. Its images are decoded once into a memory-mapped cache. TensorFlow is
    not needed. If there is no split ``"test"``, the split ``"validation"`` is used.

    If the split ``"test"`` has no labels, the validation split is used, with a warning.

    Args:
        name: Name or path of the dataset. Text without a path separator is a name, and
            a ``pathlib.Path`` is always a path.
        data_dir: Folder of prepared TFDS datasets. If None, TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        cache_dir: Folder for decoded images. If None, JAXKD_CACHE_DIR, else the user's
            cache folder.
        image_size: Height and width to resize encoded images to. They are scaled until
            they cover the square, with their aspect ratio unchanged, and cropped at the
            center. Required if the images have different sizes.
        train_split: Rows to train on, in the syntax of TFDS: ``"train[:90%]"``,
            ``"train[1000:]"``, ``"train+validation"``. A slice of a TFDS dataset takes
            rows in their order, which TFDS has shuffled. A slice of other datasets
            takes the same share of each class, each in the order of its files or rows.
            With ``"train[...]"``, a folder may contain the class folders themselves.
        test_split: Rows to test on, in the same syntax.
        stream: Whether to read and decode images whenever they are needed, instead of
            once into the cache. The first load still reads each image once, to find
            labels, sizes and statistics.
        workers: Number of processes that read streamed images; 0 for threads.
        background: Color behind transparent pixels of encoded images: ``"white"``,
            ``"black"``, ``"gray"`` or ``"#RRGGBB"``. Images that are declared to have
            four channels keep their transparency.
        value_range: Values of black and white in a .npz file whose images are not
            uint8 and not in 0 to 1, such as ``(0, 65535)`` or ``(-1, 1)``. They are
            mapped to 0 to 1.
        test_resize: Length that the shorter side of encoded test images is scaled to
            before the center of ``image_size`` is cropped: ImageNet's evaluation has
            256 and 224. Training images do not depend on it.

    Returns:
        The validated dataset. Its images are read-only memory maps or streamed; those
        of digits and .npz files are arrays.

    Raises:
        InvalidInputError: If the name is unknown, the dataset is not prepared, a file
            is damaged, or its contents cannot be used.

    Example:
        >>> from jaxkd import data
        >>> digits = data.load("digits")
        >>> digits.train.images.shape, digits.test.images.shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))
        >>> data.load("digits", train_split="train[:50%]", test_split="train[50%:]")
        ImageDataset('digits', train=718, test=719, image_shape=(8, 8, 1),
        num_classes=10)
    """
    name = _as_text(name)
    loading = Loading(
        cache_dir,
        image_size,
        stream,
        workers,
        background,
        value_range,
        train_split,
        test_split,
        test_resize,
    ).checked()
    if value_range is not None and not name.endswith(".npz"):
        raise InvalidInputError(
            f"value_range is {value_range}, but it applies to the arrays of .npz files "
            f"only (--value-range), and {name} is none",
            argument="value_range",
        )
    if _is_in_memory(name):
        return _in_memory(_arrays(name, loading.value_range), loading)
    source = _open_source(name, data_dir, train_split, test_split)
    return load_source(source, loading)


def describe(
    name: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    value_range: tuple[float | int, float | int] | None = None,
) -> Description:
    """Describe a dataset before its images are decoded.

    Args:
        name: Name or path of the dataset, as for :func:`load`.
        data_dir: Folder of prepared TFDS datasets.
        train_split: Rows to train on.
        test_split: Rows to test on.
        value_range: Values of black and white in a .npz file.

    Returns:
        The splits, classes and labels, the files that were left out, and probable
        mistakes. Its ``headers`` has the modes and sizes of the encoded images.

    Raises:
        InvalidInputError: If :func:`load` would refuse the splits or the labels.

    Example:
        >>> from jaxkd import data
        >>> description = data.describe("digits", train_split="train[:10%]")
        >>> description.train.rows, description.splits
        (144, {'train': 1437, 'test': 360})
    """
    name = _as_text(name)
    if value_range is not None:
        value_range = checked_value_range(value_range)
    if _is_in_memory(name):
        return _describe_arrays(
            name, _arrays(name, value_range), train_split, test_split
        )
    source = _open_source(name, data_dir, train_split, test_split)
    plan = with_labeled_test(source, make_plan(source, train_split, test_split))
    description = describe_source(source, plan, slow_labels=("train", "test"))
    return dataclasses.replace(description, splits=count_splits(source))


def _open_source(
    name: str,
    data_dir: str | os.PathLike | None,
    train_split: str | None,
    test_split: str | None,
) -> Source:
    """Open a dataset of encoded images."""
    if name.endswith(".parquet"):
        raise InvalidInputError(
            f"{name} is one part of a dataset; give the folder that contains "
            "train-*.parquet and test-*.parquet",
            argument="name",
        )
    if not is_path(name):
        return open_tfds(name, data_dir)
    root = expand_home(name, "name")
    given = {"train_split": train_split, "test_split": test_split}
    requested = [
        split
        for argument, text in given.items()
        if text is not None
        for split in parse(text, argument).splits
    ]
    return find_parquet(root) or FolderSource(root, requested)


def _as_text(name: Any) -> str:
    """Return the name or path of a dataset as text, in which a path has a separator."""
    if isinstance(name, str):
        return name
    try:
        return os.path.abspath(os.fsdecode(expand_home(name, "name")))
    except TypeError:
        raise InvalidTypeError(
            f"the name of a dataset must be text or a path, got {name!r}",
            argument="name",
        ) from None


def is_path(name: str) -> bool:
    """Return whether the name of a dataset is the path of a file or folder.

    A name without a path separator is a TFDS name, even if the current folder contains
    a folder of this name. Write ``./mnist`` for the folder.
    """
    if name.endswith(".npz"):
        return True
    looks = name.startswith((".", "~", os.sep)) or os.sep in name
    return looks and expand_home(name, "name").is_dir()


def _is_in_memory(name: str) -> bool:
    return name == "digits" or name.endswith(".npz")


def _arrays(name: str, value_range: tuple[float, float] | None) -> ImageDataset:
    if name == "digits":
        return _digits()
    return load_npz(expand_home(name, "name"), value_range)


def _in_memory(dataset: ImageDataset, loading: Loading) -> ImageDataset:
    """Select rows; raise if a setting applies to encoded images only."""
    if loading.stream:
        raise InvalidInputError(
            f"stream is set, but {dataset.name} is held in memory; only TFDS datasets, "
            "image folders and parquet files can be streamed (--stream)",
            argument="stream",
        )
    if loading.image_size is not None:
        raise InvalidInputError(
            f"image_size is {loading.image_size}, but the images of {dataset.name} are "
            f"arrays of shape {dataset.image_shape}; image_size (--image-size) applies "
            "to encoded images only",
            argument="image_size",
        )
    if loading.background != WHITE:
        raise InvalidInputError(
            f"background is {loading.background}, but the images of {dataset.name} are "
            "arrays; background (--background) applies to encoded images only",
            argument="background",
        )
    return select_rows(dataset, loading.train_split, loading.test_split)


def _describe_arrays(
    name: str,
    dataset: ImageDataset,
    train_split: str | None,
    test_split: str | None,
) -> Description:
    """Describe a dataset in memory."""
    chosen = select_rows(dataset, train_split, test_split)
    train, test = chosen.train.labels, chosen.test.labels
    return Description(
        dataset.name,
        "arrays",
        name,
        {"train": len(dataset.train.labels), "test": len(dataset.test.labels)},
        dataset.class_names,
        Part(train_split or "train", len(train), train),
        Part(test_split or "test", len(test), test),
        doubts=chosen.doubts,
    )


def _digits() -> ImageDataset:
    """Read the bundled digits; see ``digits.md`` for their source and license."""
    file = importlib.resources.files("jaxkd.data").joinpath("digits.npz")
    with file.open("rb") as raw, NpzFile(raw, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    # Stored values are 0 to 16; the training rows come first.
    images = np.round(images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = np.split(images, [_DIGITS_TRAIN_ROWS])
    train_labels, test_labels = np.split(labels, [_DIGITS_TRAIN_ROWS])
    return ImageDataset(
        name="digits",
        train=Split(train, train_labels),
        test=Split(test, test_labels),
        num_classes=10,
        augmentation=default_augmentation("digits", images.shape[1:]),
    )
