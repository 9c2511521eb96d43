"""Messages on stderr, and output in any encoding."""

import contextlib
import io
import os
import re
import shutil
import sys
from typing import Any

from jaxkd._text import printable, shortened

# Messages of other libraries may have several indented lines.
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
_ERASE = "\r\x1b[K"  # back to the start of the line, and erase it

_announced = False  # whether a line of `announce` is on the terminal


def say(message: str) -> None:
    """Print a message as one line on stderr, without control characters."""
    withdraw()
    line = printable(_LINE_BREAK.sub(" ", message.strip()))
    with contextlib.suppress(OSError, ValueError):  # its reader has ended
        print(f"jaxkd: {line}", file=sys.stderr, flush=True)


def announce(activity: str) -> None:
    """Show on a terminal what happens now, until something else is printed.

    The line is erased by the next message or output. Off a terminal, nothing is shown.

    Args:
        activity: What happens, such as ``"loading JAX"``.
    """
    global _announced
    if sys.stderr is None or not sys.stderr.isatty():
        return
    erases = os.environ.get("TERM", "") != "dumb"
    width = shutil.get_terminal_size().columns - len("jaxkd:  ...") - 1
    text = f"jaxkd: {shortened(printable(activity), max(width, 10))} ..."
    with contextlib.suppress(OSError, ValueError):
        print(
            f"{_ERASE}{text}" if erases else text,
            end="" if erases else "\n",
            file=sys.stderr,
            flush=True,
        )
        _announced = erases


def withdraw() -> None:
    """Erase what :func:`announce` has shown."""
    if erasure := take_erasure():
        with contextlib.suppress(OSError, ValueError):
            print(erasure, end="", file=sys.stderr, flush=True)


def take_erasure() -> str:
    """Return what erases an announcement from stderr, once; empty if there is none."""
    global _announced
    erasure, _announced = _ERASE if _announced else "", False
    return erasure


def accept_any_text(stream: Any) -> None:
    """Let a stream write escapes in place of characters that its encoding lacks.

    Otherwise ± in an ASCII log file is a ``UnicodeEncodeError``.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
