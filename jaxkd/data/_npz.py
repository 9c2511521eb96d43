"""Build datasets from the arrays of .npz files."""

import hashlib
from pathlib import Path

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._archive import read_arrays
from jaxkd.data._dataset import Augmentation, ImageDataset, default_augmentation
from jaxkd.data._labels import check_class_names, count_numbered_classes
from jaxkd.data._range import scale_to_unit
from jaxkd.data._split import checked_split

_REQUIRED = ("x_train", "y_train", "x_test", "y_test")


def load_npz(
    path: Path, value_range: tuple[float, float] | None = None
) -> ImageDataset:
    """Load the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of a file.

    Args:
        path: The file.
        value_range: Values of black and white. The images are mapped to 0 to 1 in
            float32. If None, they must be uint8, or floating point in 0 to 1.

    Raises:
        InvalidInputError: If the file cannot be read, or its contents cannot be used.
    """
    arrays = read_arrays(path, _REQUIRED, ("class_names",))
    class_names = _class_names(arrays.pop("class_names", np.array([], str)), path)
    for key in ("x_train", "x_test"):
        if arrays[key].ndim == 3:
            arrays[key] = arrays[key][..., None]
        if value_range is not None:
            arrays[key] = scale_to_unit(arrays[key], value_range, f"{path}: {key}")
    for key in ("y_train", "y_test"):
        if arrays[key].ndim == 2 and arrays[key].shape[1] == 1:
            arrays[key] = arrays[key][:, 0]
    train, test = (
        checked_split(
            arrays[f"x_{part}"],
            arrays[f"y_{part}"],
            num_classes=len(class_names) or _count_classes(arrays),
            images_name=f"{path}: x_{part}",
            labels_name=f"{path}: y_{part}",
        )
        for part in ("train", "test")
    )
    image_shape = train.images.shape[1:]
    return ImageDataset(
        name=path.stem,
        train=train,
        test=test,
        num_classes=len(class_names)
        or count_numbered_classes([train.labels, test.labels], str(path)),
        class_names=class_names,
        augmentation=Augmentation(default_augmentation("", image_shape).crop_padding),
        fingerprint=_fingerprint(path, value_range),
    )


def _count_classes(arrays: dict[str, np.ndarray]) -> int:
    """Return one more than the largest label; other dtypes than integers count as 0."""
    labels = [arrays["y_train"], arrays["y_test"]]
    return 1 + max(
        max(0, int(y.max(initial=0))) if np.issubdtype(y.dtype, np.integer) else 0
        for y in labels
    )


def _class_names(names: np.ndarray, path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise InvalidInputError(
            f"class_names of {path} must be a list of text, got {names.dtype} "
            f"{names.shape}; save np.array(names, dtype=str)",
            argument="name",
        )
    if names.dtype.kind == "S":
        texts = [name.decode("utf-8", "replace") for name in names.tolist()]
    else:
        texts = [*map(str, names.tolist())]
    check_class_names(texts, f"class_names of {path}")
    return tuple(texts)


def _fingerprint(path: Path, value_range: tuple[float, float] | None) -> str:
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if value_range is None:
        return f"npz:sha256:{checksum}"
    low, high = value_range
    return f"npz:sha256:{checksum}, values {low:g} to {high:g}"
