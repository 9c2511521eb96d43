"""Find image files in folders, each once, without waiting for pipes or loops."""

import os
import stat
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from jaxkd._errors import InvalidInputError

_COMMON = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_RARE = {".apng", ".avif", ".jfif", ".jp2", ".jpe", ".pbm", ".pgm", ".pnm"}
IMAGE_SUFFIXES = frozenset(_COMMON | _RARE)
# Pictures that Pillow does not read, or not as people see them.
_CAMERAS = {".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".nef", ".raw"}
_OTHER_PICTURES = _CAMERAS | {".dcm", ".eps", ".exr", ".hdr", ".jxl", ".psd", ".svg"}
Identity = tuple[int, int]


class Found(NamedTuple):
    """Files below a folder.

    Attributes:
        names: Image files, relative to the folder, sorted.
        skipped: Number of other files of each suffix.
        repeated: Links to folders that are counted elsewhere.
        broken: Files with the suffix of an image that cannot be read, with the reason.
        linked: Whether an image may have been found under several names, by links.
    """

    names: list[str]
    skipped: Counter[str]
    repeated: list[str]
    broken: list[str]
    linked: bool


def doubts_about_skipped(skipped: Counter[str], root: Path) -> list[str]:
    """Return doubts about files that are pictures and were left out.

    Args:
        skipped: Number of ignored files of each suffix. Those of images lie beside the
            class folders.
        root: The dataset, in the messages.
    """
    doubts = []
    other = {suffix: n for suffix, n in skipped.items() if suffix in _OTHER_PICTURES}
    if other:
        doubts.append(
            f"files that are probably pictures are left out of {root}: "
            f"{sum(other.values()):,} with the suffix {' or '.join(sorted(other))}; "
            "convert them to PNG or JPEG"
        )
    if loose := sum(n for suffix, n in skipped.items() if suffix in IMAGE_SUFFIXES):
        doubts.append(
            f"images beside the class folders are left out of {root}: {loose:,}; move "
            "them to the folders of their classes"
        )
    return doubts


def folders(root: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def identity(path: str | os.PathLike) -> Identity:
    """Return a file's device and inode, which are equal for all its paths."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def find_images(root: Path, taken: Collection[Identity]) -> Found:
    """Find all images below a folder. Links are followed, but no folder twice.

    Args:
        root: The folder.
        taken: Folders that are not entered, because they are counted elsewhere.
    """
    found = Found([], Counter(), [], [], False)
    entered = {*taken, identity(root)}
    waiting, linked, start = [os.fspath(root)], False, len(os.path.join(root, ""))
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            found.broken.append(f"{folder} cannot be listed: {error.strerror}")
            continue
        for entry in entries:
            if not entry.name.startswith("."):
                linked |= _visit(entry, start, found, entered, waiting)
    found.names.sort()
    return found._replace(linked=linked)


def _visit(
    entry: os.DirEntry[str],
    start: int,
    found: Found,
    entered: set[Identity],
    waiting: list[str],
) -> bool:
    """Add one file or folder to the lists; return whether it is a linked image.

    Args:
        entry: The file or folder.
        start: Length of the root's path, which names leave out.
        found: Files so far.
        entered: Folders that are not entered again.
        waiting: Folders to enter.
    """
    suffix = os.path.splitext(entry.name)[1].lower()
    is_image = suffix in IMAGE_SUFFIXES
    try:
        status = entry.stat()
    except OSError as error:
        if is_image:
            found.broken.append(f"{entry.path} cannot be opened: {error.strerror}")
        else:
            found.skipped[suffix] += 1
        return False
    if stat.S_ISDIR(status.st_mode):
        if (own := (status.st_dev, status.st_ino)) in entered:
            found.repeated.append(entry.path)
        else:
            entered.add(own)
            waiting.append(entry.path)
    elif not is_image:
        found.skipped[suffix] += 1
    elif not stat.S_ISREG(status.st_mode):
        found.broken.append(f"{entry.path} is not a regular file")
    else:
        found.names.append(entry.path[start:])
        return status.st_nlink > 1 or entry.is_symlink()
    return False


def check_regular(path: Path) -> None:
    """Raise unless a path is that of a regular file. The file is not opened.

    Opening a FIFO would wait for a writer, and a device may never end.

    Raises:
        InvalidInputError: If there is no file, or something else has this path.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character.
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise InvalidInputError(
                f"dataset: there is no folder or file {path}", argument="name"
            ) from None
        raise InvalidInputError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}",
            argument="name",
        ) from error
    if not stat.S_ISREG(mode):
        kinds = {
            stat.S_IFDIR: "a folder",
            stat.S_IFIFO: "a FIFO",
            stat.S_IFSOCK: "a socket",
        }
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise InvalidInputError(
            f"cannot read {path}: it is {kind}; give a regular file", argument="name"
        )
