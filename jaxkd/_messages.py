"""Messages on stderr, and output in any encoding."""

import contextlib
import io
import re
import sys
from typing import Any

from jaxkd._text import printable

# Messages of other libraries may have several indented lines.
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")


def say(message: str) -> None:
    """Print a message as one line on stderr, without control characters."""
    line = printable(_LINE_BREAK.sub(" ", message.strip()))
    with contextlib.suppress(OSError, ValueError):  # its reader has ended
        print(f"jaxkd: {line}", file=sys.stderr, flush=True)


def accept_any_text(stream: Any) -> None:
    """Let a stream write escapes in place of characters that its encoding lacks.

    Otherwise ± in an ASCII log file is a ``UnicodeEncodeError``.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
