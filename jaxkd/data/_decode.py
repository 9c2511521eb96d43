"""Decode images to pixels, and write decoded datasets to a cache folder."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd._watch import Watch
from jaxkd.data import _cache
from jaxkd.data._picture import (
    WHITE,
    UnusablePictureError,
    flattened,
    has_frames,
    opened,
    resized,
)
from jaxkd.data._repeated import doubts_about_repeated

PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ROWS_AT_ONCE = 512
_BYTES_AT_ONCE = 2**28


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


class FrameNotice:
    """Prints once that the first of several frames is used.

    Args:
        is_said: Whether to keep silent.
    """

    def __init__(self, *, is_said: bool = False):
        self.is_said = is_said

    def say(self, where: str) -> None:
        """Print the notice about an image, unless it has been printed."""
        if not self.is_said:
            self.is_said = True
            say(
                f"{where} has several frames or pages; the first is used, here and in "
                "all such images"
            )


class DecodedRows:
    """Images that are decoded to the same size when they are read.

    Args:
        encoded: Encoded images, at least one.
        channels: Number of channels: 1, 3 or 4.
        size: Height and width of the results. An image of another size is scaled until
            it covers this size, with its aspect ratio unchanged, and then cropped at
            the center. If None, all images must have the size of the first one.
        background: Color behind transparent pixels, ``#rrggbb``. Images of four
            channels keep their transparency.
        frames: Says that the first of several frames is used; shared by the parts of a
            dataset.
        shorter_side: Length of the shorter side that images are scaled to before the
            center is cut out, at least the size; None to scale them until they cover
            it.

    Attributes:
        shape: Rows, height, width, channels.
    """

    def __init__(
        self,
        encoded: Encoded,
        channels: int,
        size: tuple[int, int] | None = None,
        background: str = WHITE,
        frames: FrameNotice | None = None,
        *,
        shorter_side: int | None = None,
    ):
        self._encoded, self._mode, self._size = encoded, PILLOW_MODES[channels], size
        self._shorter_side = shorter_side
        self._background, self._frames = background, frames or FrameNotice()
        if size is None:
            ((first, _),) = self._read([0])
            height, width = self._pixels(0, first).shape[:2]
            size = height, width
        self.shape = (len(encoded), *size, channels)

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of some rows, uint8, and their labels, int32.

        Raises:
            InvalidInputError: If a file is not an image, or an image has another size.
        """
        return self._decode(rows, None)

    def read_with_digests(
        self, rows: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, bytes]:
        """Like :meth:`read`, but also return the hashes of the rows, joined."""
        digests: list[bytes] = []
        images, labels = self._decode(rows, digests)
        return images, labels, b"".join(digests)

    def _decode(
        self, rows: Sequence[int] | np.ndarray, digests: list[bytes] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = [int(row) for row in rows]
        examples = self._read(rows)
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, (row, (encoded, _)) in enumerate(zip(rows, examples, strict=True)):
            if digests is not None:
                digests.append(hashlib.sha256(encoded).digest())
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

    def _read(self, rows: list[int]) -> list[tuple[bytes, int]]:
        try:
            return self._encoded.read(rows)
        except OSError as error:
            raise failed_read(self._encoded.where(rows[0]), error) from error

    def _pixels(self, row: int, encoded: bytes) -> np.ndarray:
        try:
            with opened(encoded) as image:
                converted = flattened(image, self._mode, self._background)
                if self._size is not None:
                    converted = resized(converted, self._size, self._shorter_side)
                if not self._frames.is_said and has_frames(image):
                    self._frames.say(self._encoded.where(row))
        except Exception as error:  # Pillow raises many types for broken images.
            raise unreadable(self._encoded.where(row), error) from error
        pixels = np.asarray(converted)
        return pixels.reshape(*pixels.shape[:2], -1)  # Gray images have two axes.


def failed_read(where: str, error: OSError) -> InvalidInputError:
    """Build the error for a file that the operating system cannot read.

    Args:
        where: Description of the image, if the error does not name a file.
        error: The error of the operating system.
    """
    return InvalidInputError(
        f"cannot read {error.filename or where}: {error.strerror or error}",
        argument="name",
    )


def unreadable(where: str, error: Exception) -> InvalidInputError:
    """Build the error for an image that cannot be read or used."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # Its text names a Python object.
        return InvalidInputError(
            f"{where} is not an image, despite its name", argument="name"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    kind = "usable" if isinstance(error, UnusablePictureError) else "readable"
    return InvalidInputError(
        f"{where} is not a {kind} image: {reason}", argument="name"
    )


def rows_at_once(shape: tuple[int, ...], most: int) -> int:
    """Return how many images to decode at once, so that large ones fit in memory."""
    return max(1, min(most, _BYTES_AT_ONCE // math.prod(shape[1:])))


def write_decoded(
    parts: dict[str, DecodedRows], metadata: dict[str, Any], target: Path
) -> None:
    """Decode all images and write them to a new cache folder.

    The metadata get the entry ``contents``, the hash of what was read.

    Raises:
        InvalidInputError: If an image cannot be used or the folder cannot be written.
    """
    files, hashes, classes = {}, {}, {}
    with _cache.new_folder(target) as folder:
        for part, rows in parts.items():
            labels: list[np.ndarray] = []
            own: list[bytes] = []
            files[f"{part}-images"] = _cache.write_array(
                folder / f"{part}-images.npy",
                rows.shape,
                np.uint8,
                _images(rows, part, labels, own),
            )
            files[f"{part}-labels"] = _cache.write_array(
                folder / f"{part}-labels.npy", rows.shape[:1], np.int32, labels
            )
            hashes[part], classes[part] = b"".join(own), np.concatenate(labels)
        write_metadata(folder, metadata, files, hashes, classes)


def write_metadata(
    folder: Path,
    metadata: dict[str, Any],
    files: dict[str, Any],
    hashes: dict[str, bytes],
    labels: dict[str, np.ndarray],
) -> None:
    """Write the metadata, with a hash of the contents and warnings about copies.

    Args:
        folder: The new cache folder.
        metadata: Entries to write, ``class_names`` among them.
        files: Properties of the arrays.
        hashes: Hashes of the encoded images of each part, joined.
        labels: Their labels, int32.
    """
    contents = _contents_digest(metadata["class_names"], hashes, labels)
    doubts = doubts_about_repeated(hashes, labels)
    entries = {"contents": contents, "repeated": doubts, "files": files}
    _cache.write_metadata(folder, {**metadata, **entries})


def _contents_digest(
    class_names: Sequence[str], hashes: dict[str, bytes], labels: dict[str, np.ndarray]
) -> str:
    """Return the hash of a dataset's contents.

    It depends on the encoded images, their labels and order, and the names of the
    classes, but not on paths or times, so that a copy has the same.
    """
    digest = hashlib.sha256(repr(list(class_names)).encode("utf-8", "replace"))
    for part in hashes:
        own = hashes[part] + labels[part].tobytes()
        digest.update(f"{part} {len(own)}:".encode() + own)
    return digest.hexdigest()[:16]


def _images(
    rows: DecodedRows, part: str, labels: list[np.ndarray], digests: list[bytes]
) -> Iterator[np.ndarray]:
    """Yield chunks of decoded images; append their labels and hashes to the lists.

    It uses one thread. For images this small, a second thread costs more than it saves.
    """
    count = rows.shape[0]
    with Watch(f"decoding {part}", count) as watch:
        step = rows_at_once(rows.shape, _ROWS_AT_ONCE)
        for start in range(0, count, step):
            stop = min(start + step, count)
            images, own, hashes = rows.read_with_digests(range(start, stop))
            labels.append(own)
            digests.append(hashes)
            yield images
            watch(stop)
