"""Find image files in folders, each once, without waiting for pipes or loops."""

import os
import stat
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from jaxkd._errors import InvalidInputError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
Identity = tuple[int, int]


class Found(NamedTuple):
    """Files below a folder.

    Attributes:
        names: Image files, relative to the folder, sorted.
        skipped: Number of other files of each suffix.
        repeated: Links to folders that are counted elsewhere.
        broken: What looks like an image and cannot be one, with the reason.
        linked: Whether some images are links, so that one may be found twice.
    """

    names: list[str]
    skipped: Counter[str]
    repeated: list[str]
    broken: list[str]
    linked: bool


def folders(root: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones."""
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def identity(path: str | os.PathLike) -> Identity:
    """Return what two paths of one file have in common."""
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
    """Sort one file or folder; return whether it is an image that has other names.

    Args:
        entry: The file or folder.
        start: Length of the part of its path that names have not.
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
    """Check that a file can be read without waiting for another program.

    Raises:
        InvalidInputError: If it is missing, a folder, a pipe or a device.
    """
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {path}: {error.strerror}", argument="name"
        ) from None
    if not is_regular:
        raise InvalidInputError(
            f"{path} is not a regular file; give a file with contents", argument="name"
        )


def home_path(path: str | os.PathLike) -> Path:
    """Return a path that may begin with ``~``.

    Raises:
        InvalidInputError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidInputError(
            f"{path}: there is no such user. Write the path in full, or "
            f"./{path} for a folder of this name."
        ) from None
