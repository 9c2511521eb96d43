"""One run at a time in a folder."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from jaxkd._errors import InvalidInputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = "lock"


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder.

    The operating system releases the lock when the process ends, however it ends: there
    are no stale ones. On systems and file systems without such locks, nothing is kept
    out.

    Args:
        folder: Created if it does not exist.

    Raises:
        ValueError: If another run has it, naming the process and its host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a+") as file:
        _take(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def check_free(folder: Path) -> None:
    """Refuses a folder that another run has, before any work is done.

    Raises:
        ValueError: As :func:`hold` does.
    """
    if (folder / FILE).exists():
        with (folder / FILE).open("a+") as file:
            _take(file, folder)


def _take(file, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise InvalidInputError(
            f"{folder} is in use by {holder}; wait for it to end, or stop it"
        ) from None
    except OSError:
        return
