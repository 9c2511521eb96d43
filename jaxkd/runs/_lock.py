"""Claim a folder for one run: one that is free, or one to resume."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from jaxkd._errors import InvalidInputError
from jaxkd.runs._folder import RunFolder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def check_out(out: Path, *, resume: bool, held: bool = False) -> None:
    """Check that a run can be written to a folder, or resumed there.

    Args:
        out: The run folder.
        resume: Whether the run in the folder is to be resumed. If not, the folder must
            be empty or absent.
        held: Whether this process already holds the folder's lock.

    Raises:
        ValueError: If the folder contains nothing to resume, is not empty, or belongs
            to another process.
    """
    folder = RunFolder(out)
    if resume:
        if not folder.config.is_file():
            raise InvalidInputError(
                f"{out} contains no run to resume. Check --out, or start a new run "
                "without --resume.",
                argument="out",
            )
        if not held:
            check_free(out)
    elif out.exists() and (
        not out.is_dir() or any(path != folder.lock for path in out.iterdir())
    ):
        hint = "Choose another --out."
        if folder.config.is_file():
            hint = "Add --resume to continue the run, or choose another --out."
        raise InvalidInputError(f"{out} already exists. {hint}", argument="out")


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a run folder's lock, so that no other run uses the folder.

    The operating system releases the lock when the process ends, even after a crash or
    a kill, so a lock is never stale. Systems and file systems without such locks give
    no protection.

    Args:
        folder: The run folder. It is created if it does not exist.

    Raises:
        ValueError: If another run holds the folder. The message names the process and
            its host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder).lock.open("a+") as file:
        _acquire(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def check_free(folder: Path) -> None:
    """Check that no other run holds a folder, without creating anything.

    Raises:
        ValueError: If another run holds the folder.
    """
    path = RunFolder(folder).lock
    if path.exists():
        with path.open("a+") as file:
            _acquire(file, folder)


def _acquire(file: TextIO, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise InvalidInputError(
            f"{folder} is in use by {holder}. Wait for that run to end, or stop it.",
            argument="folder",
        ) from None
    except OSError:
        return
