"""Output whose reader has ended: a pipe to ``head``, or a closed terminal."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from jaxkd._messages import say

_STDERR = 2  # its descriptor


def open_missing() -> None:
    """Send the output of a stream that the process was started without nowhere.

    Otherwise the next file that is opened takes its descriptor, and its output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)


def flush_stdout() -> None:
    """Write what is buffered for stdout, if there is one."""
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_stdout() -> None:
    """Send the rest of the output nowhere, so that it cannot fail at exit again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class UntilClosed:
    """A stream that drops its output, after one warning, once it cannot be written.

    Args:
        stream: The stream, such as ``sys.stdout``; None if the process has none.
    """

    def __init__(self, stream: Any):
        self._stream = stream
        self._open = stream is not None

    def write(self, text: str) -> int:
        """Write a text."""
        if self._open:
            try:
                self._stream.write(text)
            except OSError as error:
                self._close(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        if self._open:
            try:
                self._stream.flush()
            except OSError as error:
                self._close(error)

    def _close(self, error: OSError) -> None:
        self._open = False
        discard_stdout()
        say(
            f"warning: stdout cannot be written ({error.strerror}); training continues "
            "without its display"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
