"""Write a file atomically, and never through a link."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

_PREFIX = ".jaxkd-tmp-"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash, it is complete or as it was.

    The content goes to a new file with an unpredictable name in the same folder, which
    then takes the place of the old file. If ``path`` is a link, the link is replaced,
    and the file that it points to is not touched. What a killed process has left of the
    same file is removed.

    Raises:
        OSError: If the file cannot be written. The error names the path, and no
            temporary file is left.
    """
    temporary = path.with_name(f"{_PREFIX}{path.name}-{token_hex(8)}")
    with naming(path):
        _remove_leftovers(path)
        file = temporary.open("xb")  # never an existing file, never a link
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the operating system that names none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(
            error.errno, f"cannot write {path} ({error.strerror})"
        ) from error


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of earlier writes of a file."""
    ours = re.compile(f"{_PREFIX}{re.escape(path.name)}-[0-9a-f]{{16}}", re.DOTALL)
    with os.scandir(path.parent) as entries:
        found = [each.name for each in entries if ours.fullmatch(each.name)]
    for name in found:
        with contextlib.suppress(OSError):
            path.with_name(name).unlink()
