"""Claim a folder for one run: one that is free, or one to resume."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from jaxkd._errors import InvalidInputError
from jaxkd._lock import Lock
from jaxkd._text import shortened
from jaxkd.runs._folder import RunFolder

# Bytes that paths inside a run folder add to that of the folder, with some to spare.
_LONGEST_INSIDE = 300


def check_out(out: Path, *, resume: bool, held: bool = False) -> None:
    """Check that a run can be written to a folder, or resumed there.

    Nothing is created.

    Args:
        out: The run folder.
        resume: Whether the run in the folder is to be resumed. If not, the folder must
            be empty or absent.
        held: Whether this process already holds the folder's lock.

    Raises:
        InvalidInputError: If the folder contains nothing to resume, is not empty,
            belongs to another process, or cannot be created.
    """
    folder = RunFolder(out)
    check_path(out)
    if resume:
        if not folder.config.is_file():
            raise InvalidInputError(
                f"{out} contains no run to resume. Check --out, or start a new run "
                "without --resume.",
                argument="out",
            )
        if not held:
            check_free(out)
    elif os.path.lexists(out) and not _is_empty(out):
        hint = "Choose another --out."
        if folder.config.is_file():
            hint = "Add --resume to continue the run, or choose another --out."
        raise InvalidInputError(f"{out} already exists. {hint}", argument="out")


def _is_empty(out: Path) -> bool:
    """Return whether a folder is empty, apart from the lock of an ended run."""
    if not out.is_dir():
        return False
    lock = _lock_of(out)
    return all(path == lock.file and lock.is_ours() for path in out.iterdir())


def check_path(out: Path) -> None:
    """Refuse a path at which no folder can be made, as an error about ``out``."""

    def refuse(problem: str) -> InvalidInputError:
        return InvalidInputError(
            f"{shortened(str(out), 100)} {problem}. Choose another --out.",
            argument="out",
        )

    if "\0" in str(out):
        raise refuse("contains a null character")
    path = out.absolute()
    parent = path
    while not _is_there(parent, refuse):
        parent = parent.parent
    if parent == path and not path.is_dir():
        return  # the caller reports that it is not a folder
    if not parent.is_dir():
        raise refuse(f"lies below {parent}, which is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise refuse(f"cannot be written: {parent} does not allow it")
    if not hasattr(os, "pathconf"):  # Windows
        return
    longest = os.pathconf(parent, "PC_PATH_MAX") - _LONGEST_INSIDE
    if len(os.fsencode(path)) > longest:
        raise refuse(f"has more than {longest} bytes")
    longest = os.pathconf(parent, "PC_NAME_MAX")
    if any(len(os.fsencode(name)) > longest for name in path.parts):
        raise refuse(f"has a name of more than {longest} bytes")


def _is_there(path: Path, refuse: Callable[[str], Exception]) -> bool:
    """Return whether there is something at a path."""
    try:
        path.stat()
    except OSError as error:
        # A file in place of a parent folder; a name that is longer than any can be.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return False
        raise refuse(f"cannot be used ({error.strerror})") from error
    return True


def hold(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a run folder's lock, so that no other run uses the folder.

    The operating system releases the lock when the process ends, even after a crash or
    a kill, so a lock is never stale. Systems and file systems without such locks give
    no protection.

    Args:
        folder: The run folder. It is created if it does not exist.

    Raises:
        InvalidInputError: If another run holds the folder (the message names the
            process and its host), or its lock file is not one of this library.
    """
    return _lock_of(folder).hold()


def check_free(folder: Path) -> None:
    """Check that no other run holds a folder, without creating anything.

    Raises:
        InvalidInputError: If another run holds the folder, or its lock file is not one
            of this library.
    """
    _lock_of(folder).check_free()


def _lock_of(folder: Path) -> Lock:
    return Lock(folder, RunFolder(folder).lock)
