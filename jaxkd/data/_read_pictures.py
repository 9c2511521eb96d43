"""Find and read pictures that belong to no dataset."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd.data._decode import PILLOW_MODES, DecodedRows, FrameNotice
from jaxkd.data._files import check_regular, find_images
from jaxkd.data._picture import checked_color

_NAMED = 3  # unreadable pictures in a message


class _Picture:
    """One encoded picture, without a label.

    Args:
        name: The file.
    """

    def __init__(self, name: str):
        self._name = name

    def __len__(self) -> int:
        return 1

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded picture."""
        return [(Path(self._name).read_bytes(), -1) for _ in rows]

    def where(self, row: int) -> str:
        """Describe the picture in error messages."""
        del row
        return self._name


def find_pictures(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """Find picture files, and those in folders and the folders inside.

    Args:
        paths: Files, which are taken whatever their names are, and folders, of whose
            files those are taken that have the suffix of an image.

    Returns:
        The files, each once: in the order of ``paths``, those of a folder sorted by
        name.

    Raises:
        InvalidInputError: If a path does not exist, is neither a file nor a folder, or
            there is no picture.
    """
    if not paths:
        raise InvalidInputError(
            "no picture was given. Name at least one file or folder", argument="images"
        )
    found: list[Path] = []
    for path in map(expand_home, paths):
        if not path.is_dir():
            _check_file(path)
            found.append(path)
            continue
        inside = find_images(path, ())
        if inside.broken:
            raise InvalidInputError(inside.broken[0], argument="images")
        found += [path / name for name in inside.names]
    if not found:
        raise InvalidInputError(
            f"there is no picture in {', '.join(map(str, paths))}", argument="images"
        )
    return list(dict.fromkeys(found))


def _check_file(path: Path) -> None:
    try:
        check_regular(path)
    except InvalidInputError as error:
        text = str(error).removeprefix("dataset: ")
        raise InvalidInputError(text, argument="images") from None


def read_pictures(
    paths: Sequence[str | os.PathLike],
    image_shape: tuple[int, int, int],
    *,
    background: str = "white",
    test_resize: int | None = None,
    batch_size: int = 256,
) -> Iterator[UInt8[np.ndarray, "batch h w c"]]:
    """Decode picture files as :func:`load` decodes test images.

    Args:
        paths: The files.
        image_shape: Height, width and channels. Pictures are turned upright and scaled
            until they cover this size, with their aspect ratio unchanged, and cropped
            at the center. They are converted to gray for one channel, and to color for
            three.
        background: Color behind transparent pixels.
        test_resize: Length that the shorter side is scaled to before the crop.
        batch_size: Number of pictures at once.

    Yields:
        Batches of uint8 images, in the order of the paths; the last may be smaller.

    Raises:
        InvalidInputError: If a picture cannot be read or used. All are read before the
            error, which has the names of the first three.
    """
    _checks.check_at_least(1, batch_size=batch_size)
    height, width, channels = image_shape
    if channels not in PILLOW_MODES:
        raise InvalidInputError(
            f"image_shape has {channels} channels, but pictures have 1, 3 or 4",
            argument="image_shape",
        )
    color, frames, broken = checked_color(background), FrameNotice(), []
    names = [os.fspath(path) for path in paths]
    for start in range(0, len(names), batch_size):
        batch = []
        for name in names[start : start + batch_size]:
            rows = DecodedRows(
                _Picture(name),
                channels,
                (height, width),
                color,
                frames,
                shorter_side=test_resize,
            )
            try:
                batch.append(rows.read([0])[0][0])
            except InvalidInputError as error:
                broken.append(str(error))
        if not broken:
            yield np.stack(batch)
    if broken:
        more = len(broken) - _NAMED
        others = f"; and {more:,} more" if more > 0 else ""
        raise InvalidInputError(
            f"{len(broken):,} of {len(names):,} pictures cannot be used: "
            f"{'; '.join(broken[:_NAMED])}{others}. Repair or leave them out",
            argument="images",
        )
