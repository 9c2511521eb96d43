"""Load a dataset by name or path."""

import importlib.resources
import os
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from jaxkd._errors import InvalidInputError
from jaxkd.data._assemble import Loading
from jaxkd.data._dataset import ImageDataset, Split, default_augmentation
from jaxkd.data._folder import load_folder
from jaxkd.data._npz import load_npz
from jaxkd.data._parquet import find_parquet, load_parquet
from jaxkd.data._tfds import load_tfds

_DIGITS_TRAIN_ROWS = 1437


def load(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    stream: bool = False,
    workers: int = 0,
) -> ImageDataset:
    """Load a dataset by name or path.

    ``"digits"`` is a bundled set of 8x8 handwritten digits (UCI Machine Learning
    Repository), 1,437 for training and 360 for testing in a fixed stratified split. It
    needs no network.

    A ``.npz`` file contains the arrays ``x_train``, ``y_train``, ``x_test`` and
    ``y_test`` (Keras's convention) and optionally ``class_names``. Images without a
    channel axis get one. By default, they are not flipped, because a flip may change
    their class.

    A folder contains images in ``train/CLASS/`` and ``test/CLASS/`` (or
    ``val/CLASS/``), or ``train-*.parquet`` and ``test-*.parquet`` (or ``validation-``)
    with the columns ``image`` and ``label``, as Hugging Face publishes them. If all
    images are gray, they are loaded with one channel, otherwise in color. In parquet
    files, the first image decides. By default, they are not flipped.

    Any other name is a TFDS dataset, ``name[/config][:version]``, that was prepared as
    array_record. Its images are decoded once into a memory-mapped cache. TensorFlow is
    not needed. If there is no split ``"test"``, the split ``"validation"`` is used.

    Args:
        name: Name or path of the dataset.
        data_dir: Folder of prepared TFDS datasets. If None, TFDS_DATA_DIR, else
            ~/tensorflow_datasets.
        cache_dir: Folder for decoded images. If None, JAXKD_CACHE_DIR, else the user's
            cache folder.
        image_size: Height and width to resize encoded images to. They are scaled until
            they cover the square, with their aspect ratio unchanged, and cropped at the
            center. Required if the images have different sizes.
        stream: Whether to read and decode images whenever they are needed, instead of
            once into the cache. The first load still reads each image once, to find
            labels, sizes and statistics.
        workers: Number of processes that read streamed images; 0 for threads.

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
    """
    loading = Loading.checked(cache_dir, image_size, stream, workers)
    if name == "digits":
        return _in_memory(_digits(), loading)
    if name.endswith(".npz"):
        return _in_memory(load_npz(Path(name).expanduser()), loading)
    if name.endswith(".parquet"):
        raise InvalidInputError(
            f"{name} is one part of a dataset; give the folder that contains "
            "train-*.parquet and test-*.parquet",
            argument="name",
        )
    if is_path(name):
        root = Path(name).expanduser()
        files = find_parquet(root)
        if files is not None:
            return load_parquet(root, files, loading)
        return load_folder(root, loading)
    return load_tfds(name, data_dir=data_dir, loading=loading)


def is_path(name: str) -> bool:
    """Return whether the name of a dataset is the path of a file or folder.

    A name without a path separator is a TFDS name, even if the current folder contains
    a folder of this name. Write ``./mnist`` for the folder.
    """
    if name.endswith(".npz"):
        return True
    looks = name.startswith((".", "~", os.sep)) or os.sep in name
    return looks and Path(name).expanduser().is_dir()


def _in_memory(dataset: ImageDataset, loading: Loading) -> ImageDataset:
    """Return the dataset; raise if a setting applies to encoded images only."""
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
    return dataset


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
