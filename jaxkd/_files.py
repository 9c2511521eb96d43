"""Write a file atomically, and never through a link; checksums; home folders."""

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

from jaxkd._errors import InvalidInputError

_PREFIX = ".jaxkd-tmp-"
_PIECE = 1 << 20


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


def crc32(path: Path) -> int:
    """Compute the checksum of a file, which may be larger than the free memory.

    Raises:
        OSError: If the file cannot be read.
    """
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum


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


def expand_home(path: str | os.PathLike, argument: str | None = None) -> Path:
    """Return a path with the home folder that ``~`` or ``~user`` stands for.

    Args:
        path: The path.
        argument: Name of the argument in the error, if it has one.

    Raises:
        InvalidInputError: If there is no such user.
    """
    if not os.fspath(path).startswith("~"):
        # Path("./~name") is Path("~name"), which would be taken for a user's folder.
        plain = Path(path)
        return plain.absolute() if str(plain).startswith("~") else plain
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0][1:]
        raise InvalidInputError(
            f"there is no user {user!r} whose home folder {str(path)!r} "
            f"could name; write ./{path} for a folder of this name",
            argument=argument,
        ) from None


def check_free(path: Path, option: str = "", *, argument: str = "path") -> None:
    """Raise unless nothing has this path.

    Args:
        path: The path of a file to create.
        option: The option of a command that names it, such as ``--out``.
        argument: The argument that the error names.

    Raises:
        InvalidInputError: If there is a file, a folder, or a link.
    """
    if os.path.lexists(path):  # a link to nothing, too, is somebody's
        raise InvalidInputError(
            f"{option} {path} exists already. Choose another path".lstrip(),
            argument=argument,
        )
