"""Read the records of a prepared TFDS dataset by row number."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._decode import PILLOW_MODES, DecodedRows

_TEST_SPLITS = ("test", "validation")


class TfdsRecords:
    """Encoded images and labels of one split. Files are opened at the first read.

    Args:
        folder: Folder of the prepared dataset.
        split: Name of the split.
        image_key: Name of the image feature.
        label_key: Name of the label feature.
    """

    def __init__(self, folder: Path, split: str, image_key: str, label_key: str):
        self._arguments = (folder, split, image_key, label_key)
        self._split = split
        self._image_key, self._label_key = image_key, label_key
        self._folder = folder

    def __reduce__(self):
        return TfdsRecords, self._arguments

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        # Pillow decodes instead of TFDS, so that pixels do not depend on OpenCV.
        decoders: Any = {self._image_key: tfds.decode.SkipDecoding()}
        builder: Any = tfds.builder_from_directory(self._folder)
        return builder.as_data_source(self._split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows, and their labels."""
        examples = self._source.__getitems__(list(rows))
        return [
            (example[self._image_key], int(example[self._label_key]))
            for example in examples
        ]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return f"row {row} of the split {self._split!r}"


def open_records(
    prepared: Path, size: tuple[int, int] | None, background: str
) -> tuple[dict[str, DecodedRows], list[str]]:
    """Open the splits ``train`` and ``test`` of a prepared dataset.

    Returns:
        The images of both splits and the class names.

    Raises:
        InvalidInputError: If a split is missing, or the dataset contains no labeled
            images.
    """
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(prepared)
    splits = builder.info.splits
    features: dict[str, Any] = dict(builder.info.features.items())
    test = next((split for split in _TEST_SPLITS if split in splits), None)
    if "train" not in splits or test is None:
        raise InvalidInputError(
            f"{prepared} must have the splits 'train' and 'test' or 'validation', "
            f"but its splits are {', '.join(splits)}",
            argument="name",
        )
    keys = builder.info.supervised_keys
    if keys is None or list(map(type, keys)) != [str, str]:
        keys = ("image", "label")
    image_key, label_key = keys
    image: Any = features.get(image_key)
    label: Any = features.get(label_key)
    kinds: Any = tfds.features
    if not (
        isinstance(image, kinds.Image)
        and isinstance(label, kinds.ClassLabel)
        and image.np_dtype == np.uint8
        and image.shape[-1] in PILLOW_MODES
    ):
        raise InvalidInputError(
            f"{prepared} must contain 8-bit images and class labels, got "
            f"{image_key!r}: {image} and {label_key!r}: {label}",
            argument="name",
        )
    parts = {}
    for part, split in (("train", "train"), ("test", test)):
        records = TfdsRecords(prepared, split, image_key, label_key)
        if len(records) == 0:
            raise InvalidInputError(
                f"the split {split!r} of {prepared} is empty", argument="name"
            )
        parts[part] = DecodedRows(records, image.shape[-1], size, background)
    return parts, list(label.names)
