"""Datasets in .npz files."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from jaxkd._errors import InvalidInputError
from jaxkd.data._dataset import Augmentation, ImageDataset, default_augmentation
from jaxkd.data._split import checked_split


def load_npz(path: Path) -> ImageDataset:
    """Load the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of a file.

    Raises:
        InvalidInputError: If the file cannot be read, or its contents cannot be used.
    """
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
