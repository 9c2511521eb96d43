"""Paths for storage libraries that do not take every path literally."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PLAIN = re.compile(r"[\w/.,=+@ -]+", re.ASCII)
_CLOUD = re.compile(r"/(gs|s3|az|hf)(/|$)")


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Provide a path of a folder in which no character has a special meaning.

    Orbax lists a folder with a glob pattern that begins with the folder's own path, and
    finds nothing if that contains brackets. It takes ``/gs`` for cloud storage, and
    text that is not UTF-8 for an error. Such a folder is reached through a link in the
    temporary folder.

    Args:
        folder: An existing folder.

    Yields:
        Its absolute path, or a link to it, which is removed afterwards.

    Raises:
        OSError: If a link is needed and cannot be made.
    """
    folder = folder.absolute()
    if _is_plain(folder):
        yield folder
        return
    temporary = Path(tempfile.gettempdir())
    if not _is_plain(temporary):
        raise OSError(
            "set TMPDIR to a folder without special characters: the path has some, and "
            f"is written through a link in the temporary folder, which is {temporary}"
        )
    with tempfile.TemporaryDirectory(prefix="jaxkd-", dir=temporary) as place:
        link = Path(place) / "folder"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _is_plain(path: Path) -> bool:
    return bool(_PLAIN.fullmatch(str(path))) and not _CLOUD.match(str(path))
