"""Read the records of a prepared TFDS dataset by row number."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._decode import PILLOW_MODES
from jaxkd.data._labels import UNLABELED

_ROWS_AT_ONCE = 1024


class Features(NamedTuple):
    """The image and the label of a dataset's examples.

    Attributes:
        image_key: Name of the image feature.
        label_key: Name of the label feature.
        channels: Number of channels of the images.
        class_names: One name per class.
    """

    image_key: str
    label_key: str
    channels: int
    class_names: list[str]


class TfdsImages:
    """Encoded images and labels of one split. Files are opened at the first read.

    Args:
        folder: Folder of the prepared dataset.
        split: Name of the split.
        features: Its image and label.
    """

    def __init__(self, folder: Path, split: str, features: Features):
        self._arguments = (folder, split, features)
        self._folder, self._split, self._features = folder, split, features

    def __reduce__(self):
        return TfdsImages, self._arguments

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        # Pillow decodes instead of TFDS, so that pixels do not depend on OpenCV.
        decoders: Any = {self._features.image_key: tfds.decode.SkipDecoding()}
        builder: Any = tfds.builder_from_directory(self._folder)
        return builder.as_data_source(self._split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int | None]]:
        """Return the encoded images of some rows, and their labels."""
        image_key, label_key, *_ = self._features
        examples = self._source.__getitems__(list(rows))
        return [
            (example[image_key], int(example.get(label_key, UNLABELED)))
            for example in examples
        ]

    def labels(self, rows: range) -> np.ndarray:
        """Return the labels of some rows, without looking at their images."""
        from tensorflow_datasets.proto import tf_example_pb2

        protos: Any = tf_example_pb2  # its classes are made at run time
        found, key = np.full(len(rows), UNLABELED), self._features.label_key
        records = self._source.data_source.__getitems__(list(rows))
        for i, record in enumerate(records):
            features = protos.Example.FromString(record).features.feature
            if values := features[key].int64_list.value:
                found[i] = values[0]
        return found

    def chunks(self) -> list[range]:
        """Return all rows in chunks for :meth:`labels`."""
        return [
            range(start, min(start + _ROWS_AT_ONCE, len(self)))
            for start in range(0, len(self), _ROWS_AT_ONCE)
        ]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return f"row {row} of the split {self._split!r}"


def read_features(prepared: Path) -> Features:
    """Find the image and the label of a prepared dataset.

    Raises:
        InvalidInputError: If the dataset contains no labeled images.
    """
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(prepared)
    features: dict[str, Any] = dict(builder.info.features.items())
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
    return Features(image_key, label_key, image.shape[-1], list(label.names))
