"""Lock a folder, so that one process at a time writes to it."""

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxkd._errors import InvalidInputError
from jaxkd._files import naming

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What this module writes into a lock file. A process that has ended leaves it empty.
_OURS = re.compile(rb"(process \d+ on [^\n]*\n?)?")
_LONGEST = 1000  # bytes of a lock file


class Lock(NamedTuple):
    """The lock of a folder.

    Attributes:
        folder: The folder, for messages.
        file: The lock file in it.
        kind: The kind of work that needs the folder alone, for messages: ``"run"``.
    """

    folder: Path
    file: Path
    kind: str = "run"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock. The folder is created if it does not exist.

        The operating system releases the lock when the process ends, even after a crash
        or a kill, so a lock is never stale. Systems and file systems without such locks
        give no protection.

        Raises:
            InvalidInputError: If another process holds the folder (the message names
                the process and its host), or its lock file is not one of this library.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._opened(os.O_RDWR | os.O_CREAT) as descriptor:
            self._acquire(descriptor)
            holder = f"process {os.getpid()} on {socket.gethostname()}\n"
            with naming(self.file):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, holder.encode())
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)

    def check_free(self) -> None:
        """Check that no other process holds the lock, without creating anything.

        Raises:
            InvalidInputError: If another process holds the folder, or its lock file is
                not one of this library.
        """
        if os.path.lexists(self.file):
            with self._opened(os.O_RDWR) as descriptor:
                self._acquire(descriptor)

    def is_ours(self) -> bool:
        """Return whether the lock file is one of this library."""
        try:
            with self._opened(os.O_RDONLY) as descriptor:
                return bool(_OURS.fullmatch(os.read(descriptor, _LONGEST)))
        except (InvalidInputError, OSError):
            return False

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        """Open the lock file; refuse a link, a pipe or a folder in its place."""
        # A pipe would wait for its other end.
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(self.file, flags, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._foreign() from error
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._foreign()
            yield descriptor
        finally:
            os.close(descriptor)

    def _foreign(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self.file} was not written by a {self.kind}, and is not overwritten. "
            "Choose another --out.",
            argument="folder",
        )

    def _acquire(self, descriptor: int) -> None:
        content = os.read(descriptor, _LONGEST)
        if not _OURS.fullmatch(content):
            raise self._foreign()
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = content.decode(errors="replace").strip() or "another process"
            raise InvalidInputError(
                f"{self.folder} is in use by {holder}. Wait for that {self.kind} to "
                "end, or stop it.",
                argument="folder",
            ) from None
        except OSError:
            return
