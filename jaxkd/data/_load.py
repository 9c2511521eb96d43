"""Load a dataset by name or path."""

import hashlib
import importlib.resources
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from jaxkd._errors import InvalidInputError
from jaxkd.data._assemble import Loading
from jaxkd.data._dataset import (
    Augmentation,
    ImageDataset,
    Split,
    checked_split,
    default_augmentation,
)
from jaxkd.data._folder import load_folder
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
        return _in_memory(_npz(Path(name).expanduser()), loading)
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


def _npz(path: Path) -> ImageDataset:
    arrays = _read_npz(path)
    class_names = tuple(map(str, arrays.pop("class_names", ())))
    for key in ("x_train", "x_test"):
        if arrays[key].ndim == 3:
            arrays[key] = arrays[key][..., None]
    for key in ("y_train", "y_test"):
        if arrays[key].ndim == 2 and arrays[key].shape[1] == 1:
            arrays[key] = arrays[key][:, 0]
    labels = [arrays["y_train"], arrays["y_test"]]
    num_classes = len(class_names) or 1 + max(int(y.max(initial=0)) for y in labels)
    train, test = (
        checked_split(
            arrays[f"x_{part}"],
            arrays[f"y_{part}"],
            num_classes=num_classes,
            images_name=f"{path}: x_{part}",
            labels_name=f"{path}: y_{part}",
        )
        for part in ("train", "test")
    )
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    image_shape = train.images.shape[1:]
    return ImageDataset(
        name=path.stem,
        train=train,
        test=test,
        num_classes=num_classes,
        class_names=class_names,
        augmentation=Augmentation(default_augmentation("", image_shape).crop_padding),
        fingerprint=f"npz:sha256:{checksum}",
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    required = ("x_train", "y_train", "x_test", "y_test")
    try:
        # Unpickling can run code, so pickled arrays are rejected. np.load would return
        # a bare array for a .npy file with the wrong suffix.
        with path.open("rb") as raw, NpzFile(raw, allow_pickle=False) as file:
            missing = [key for key in required if key not in file]
            if missing:
                raise InvalidInputError(
                    f"{path} must contain {', '.join(required)}; {missing[0]} is "
                    "missing",
                    argument="name",
                )
            return {key: _member(file, key, path) for key in file}
    except FileNotFoundError:
        raise InvalidInputError(
            f"dataset: there is no folder or file {path}", argument="name"
        ) from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"cannot read {path}: {error}", argument="name"
        ) from error


def _member(file: NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        return file[key]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInputError(
            f"cannot read {key} of {path}: {error}", argument="name"
        ) from error
