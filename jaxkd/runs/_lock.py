"""Claim a folder for one run: one that is free, or one to resume."""

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxkd._errors import InvalidInputError
from jaxkd._files import naming
from jaxkd._text import shortened
from jaxkd.runs._folder import RunFolder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What this module writes into a lock file. A run that has ended leaves it empty.
_OURS = re.compile(rb"(process \d+ on [^\n]*\n?)?")
_LONGEST = 1000  # bytes of a lock file
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
    lock = RunFolder(out).lock
    return all(path == lock and _is_ours(lock) for path in out.iterdir())


def _is_ours(lock: Path) -> bool:
    try:
        with _opened(lock, os.O_RDONLY) as descriptor:
            return bool(_OURS.fullmatch(os.read(descriptor, _LONGEST)))
    except (InvalidInputError, OSError):
        return False


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


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
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
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(RunFolder(folder).lock, os.O_RDWR | os.O_CREAT) as descriptor:
        _acquire(descriptor, folder)
        holder = f"process {os.getpid()} on {socket.gethostname()}\n"
        with naming(RunFolder(folder).lock):
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, holder.encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)


def check_free(folder: Path) -> None:
    """Check that no other run holds a folder, without creating anything.

    Raises:
        InvalidInputError: If another run holds the folder, or its lock file is not one
            of this library.
    """
    path = RunFolder(folder).lock
    if os.path.lexists(path):
        with _opened(path, os.O_RDWR) as descriptor:
            _acquire(descriptor, folder)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open a lock file; refuse a link, a pipe or a folder in its place."""
    # A pipe would wait for its other end.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _foreign(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _foreign(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _foreign(path: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{path} was not written by a run, and is not overwritten. Choose another "
        "--out.",
        argument="folder",
    )


def _acquire(descriptor: int, folder: Path) -> None:
    content = os.read(descriptor, _LONGEST)
    if not _OURS.fullmatch(content):
        raise _foreign(RunFolder(folder).lock)
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = content.decode(errors="replace").strip() or "another process"
        raise InvalidInputError(
            f"{folder} is in use by {holder}. Wait for that run to end, or stop it.",
            argument="folder",
        ) from None
    except OSError:
        return
