"""The files of a checkpoint, and the errors of writing and reading them."""

import errno
import functools
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

# Failures of a write for which the system's message is clearer than the library's.
_SYSTEM_ERRORS = (
    *(errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EIO),
)


def is_step(name: str) -> bool:
    """Return whether a folder's name is the step of a finished checkpoint."""
    return name.isascii() and name.isdigit()


def remove(folder: Path) -> None:
    """Remove the files of a failed save.

    Orbax's threads may continue to write for a moment after the error. So try until the
    folder stays away for a while, but no longer than a few seconds.
    """
    quiet = 0
    for _ in range(50):
        quiet = 0 if folder.exists() else quiet + 1
        if quiet == 3:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)


def reason(error: BaseException) -> str:
    """Shorten an error to fit on one line of a terminal."""
    text = str(error).strip() or type(error).__name__
    for number in _SYSTEM_ERRORS:
        if os.strerror(number) in text:
            return os.strerror(number)
    return text.splitlines()[0][:300]


@functools.cache
def silence_repeated_errors() -> None:
    """Keep the storage libraries from printing errors that they also raise.

    Threads of TensorStore report a failure to the event loop of Orbax, which may be
    closed by then, or to a coroutine that nobody waits for. These failures are printed
    with a traceback by default, beside the error that the caller gets.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_not_about_storage)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        closed = str(unraisable.exc_value) == "Event loop is closed"
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = "orbax" in getattr(code, "co_filename", "")
        if not (of_orbax or (closed and unraisable.object is None)):
            before(unraisable)

    sys.unraisablehook = hook


def _is_not_about_storage(record: logging.LogRecord) -> bool:
    return "OCDBT" not in record.getMessage()
