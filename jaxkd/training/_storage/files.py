"""The files of a checkpoint, and the errors of writing and reading them."""

import errno
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any


def checkpointer() -> Any:
    """Create Orbax's writer and reader of one checkpoint, for use in a ``with``."""
    import orbax.checkpoint as ocp  # the import takes a third of a second

    logging.getLogger("absl").setLevel(logging.ERROR)
    handler = ocp.CompositeCheckpointHandler(
        student=ocp.StandardCheckpointHandler(),
        training=ocp.StandardCheckpointHandler(),
        record=ocp.JsonCheckpointHandler(),
    )
    return ocp.Checkpointer(handler)


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
    full = os.strerror(errno.ENOSPC)
    return full if full in text else text.splitlines()[0][:200]
