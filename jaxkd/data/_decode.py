"""Decode images to pixels, and write decoded datasets to a cache folder."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._watch import Watch
from jaxkd.data import _cache

PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ROWS_AT_ONCE = 512


@runtime_checkable
class Encoded(Protocol):
    """Encoded images, read by row number.

    Objects must be picklable and small: worker processes open the files themselves.
    """

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows, and their labels."""
        ...

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        ...


class DecodedRows:
    """Images that are decoded to the same size when they are read.

    Args:
        encoded: Encoded images, at least one.
        channels: Number of channels: 1, 3 or 4.
        size: Height and width of the results. An image of another size is scaled until
            it covers this size, with its aspect ratio unchanged, and then cropped at
            the center. If None, all images must have the size of the first one.

    Attributes:
        shape: Rows, height, width, channels.
    """

    def __init__(
        self, encoded: Encoded, channels: int, size: tuple[int, int] | None = None
    ):
        self._encoded, self._mode, self._size = encoded, PILLOW_MODES[channels], size
        if size is None:
            ((first, _),) = encoded.read([0])
            height, width = self._pixels(0, first).shape[:2]
            size = height, width
        self.shape = (len(encoded), *size, channels)

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of some rows, uint8, and their labels, int32.

        Raises:
            InvalidInputError: If a file is not an image, or an image has another size.
        """
        rows = [int(row) for row in rows]
        examples = self._encoded.read(rows)
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, (row, (encoded, _)) in enumerate(zip(rows, examples, strict=True)):
            pixels = self._pixels(row, encoded)
            if pixels.shape != images.shape[1:]:
                raise InvalidInputError(
                    f"all images must have one size: {self._encoded.where(row)} is "
                    f"{pixels.shape}, the first is {images.shape[1:]}; resize them "
                    "with image_size (--image-size)",
                    argument="image_size",
                )
            images[i] = pixels
        return images, np.array([label for _, label in examples], np.int32)

    def _pixels(self, row: int, encoded: bytes) -> np.ndarray:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(encoded)) as image:
                converted = image.convert(self._mode)
        except (
            UnidentifiedImageError,
            Image.DecompressionBombError,
            OSError,
            SyntaxError,  # Pillow raises it for some broken PNG files.
            ValueError,
        ) as error:
            raise unreadable(self._encoded.where(row), error) from error
        if self._size is not None:
            height, width = self._size
            if converted.size != (width, height):
                bilinear = Image.Resampling.BILINEAR
                converted = ImageOps.fit(converted, (width, height), bilinear)
        pixels = np.asarray(converted)
        return pixels.reshape(*pixels.shape[:2], -1)  # Gray images have two axes.


def unreadable(where: str, error: Exception) -> InvalidInputError:
    """Build the error for an image that Pillow cannot read."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # Its text names a Python object.
        return InvalidInputError(
            f"{where} is not an image, despite its name", argument="name"
        )
    reason = " ".join(str(error).split())
    return InvalidInputError(
        f"{where} is not a readable image: {reason}", argument="name"
    )


def write_decoded(
    parts: dict[str, DecodedRows], metadata: dict[str, Any], target: Path
) -> None:
    """Decode all images and write them to a new cache folder.

    Raises:
        InvalidInputError: If an image cannot be used or the folder cannot be written.
    """
    files = {}
    with _cache.new_folder(target) as folder:
        for part, rows in parts.items():
            labels: list[np.ndarray] = []
            files[f"{part}-images"] = _cache.write_array(
                folder / f"{part}-images.npy",
                rows.shape,
                np.uint8,
                _images(rows, part, labels),
            )
            files[f"{part}-labels"] = _cache.write_array(
                folder / f"{part}-labels.npy", rows.shape[:1], np.int32, labels
            )
        _cache.write_metadata(folder, {**metadata, "files": files})


def _images(
    rows: DecodedRows, part: str, labels: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield chunks of decoded images and append their labels to ``labels``.

    It uses one thread. For images this small, a second thread costs more than it saves.
    """
    count = rows.shape[0]
    with Watch(f"decoding {part}", count) as watch:
        for start in range(0, count, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, count)
            images, own = rows.read(range(start, stop))
            labels.append(own)
            yield images
            watch(stop)
