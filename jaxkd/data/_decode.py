"""From a prepared TFDS dataset to a folder of plain arrays."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._watch import Watch
from jaxkd.data import _cache

_TEST_SPLITS = ("test", "validation")
_PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ROWS_AT_ONCE = 512


def decode(prepared: Path, info: dict[str, Any], target: Path) -> None:
    """Decodes every image of both splits into a new cache folder."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(prepared)
    splits = builder.info.splits
    features: dict[str, Any] = dict(builder.info.features.items())
    test = next((split for split in _TEST_SPLITS if split in splits), None)
    if "train" not in splits or test is None:
        raise InvalidInputError(
            f"{prepared} must have the splits 'train' and 'test' or 'validation', "
            f"it has {', '.join(splits)}"
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
        and image.shape[-1] in _PILLOW_MODES
    ):
        raise InvalidInputError(
            f"{prepared} must hold 8-bit images and class labels, got "
            f"{image_key!r}: {image} and {label_key!r}: {label}"
        )
    decoders: Any = {image_key: tfds.decode.SkipDecoding()}
    files = {}
    with _cache.new_folder(target) as folder:
        for part, split in (("train", "train"), ("test", test)):
            # Pillow decodes here, not TFDS: the same pixels with and without OpenCV.
            source = builder.as_data_source(split, decoders=decoders)
            rows = _Rows(source, image_key, label_key, image.shape[-1], split)
            files[f"{part}-images"] = _cache.write_array(
                folder / f"{part}-images.npy", rows.shape, np.uint8, rows.images()
            )
            files[f"{part}-labels"] = _cache.write_array(
                folder / f"{part}-labels.npy", rows.shape[:1], np.int32, [rows.labels]
            )
        metadata = {
            "name": "/".join(filter(None, [info["name"], info.get("configName")])),
            "version": prepared.name,
            "class_names": label.names,
            "files": files,
        }
        _cache.write_metadata(folder, metadata)


class _Rows:
    """Decodes a data source front to back, labels noted on the way.

    One thread: for images as small as these a second one costs more than it brings.
    """

    def __init__(
        self, source: Any, image_key: str, label_key: str, channels: int, split: str
    ):
        if len(source) == 0:
            raise InvalidInputError(f"the split {split!r} of the dataset is empty")
        self._source, self._split = source, split
        self._image_key, self._label_key = image_key, label_key
        self._mode = _PILLOW_MODES[channels]
        self.shape = (len(source), *self._pixels(0, source[0]).shape)
        self.labels: list[int] = []

    def images(self) -> Iterator[np.ndarray]:
        """Yields the decoded images, many at a time."""
        with Watch(f"decoding {self._split}", self.shape[0]) as watch:
            for start in range(0, self.shape[0], _ROWS_AT_ONCE):
                stop = min(start + _ROWS_AT_ONCE, self.shape[0])
                examples = self._source.__getitems__(list(range(start, stop)))
                yield np.stack(
                    [self._pixels(start + i, row) for i, row in enumerate(examples)]
                )
                self.labels += [int(row[self._label_key]) for row in examples]
                watch(stop)

    def _pixels(self, row: int, example: dict[str, Any]) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(example[self._image_key])) as image:
                pixels = np.asarray(image.convert(self._mode))
        except (UnidentifiedImageError, OSError) as error:
            raise InvalidInputError(
                f"row {row} of the split {self._split!r} is no readable image: {error}"
            ) from error
        pixels = pixels.reshape(*pixels.shape[:2], -1)  # Grey images have two axes.
        if row and pixels.shape != self.shape[1:]:
            raise InvalidInputError(
                f"all images must have one size: row {row} of the split "
                f"{self._split!r} is {pixels.shape}, the first is {self.shape[1:]}; "
                "resize them and load them as an .npz file"
            )
        return pixels
