"""Messages on stderr, beside a command's own output."""

import contextlib
import re
import sys

from jaxkd._text import printable

# Messages of other libraries may have several indented lines.
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")


def say(message: str) -> None:
    """Print a message as one line on stderr, without control characters."""
    line = printable(_LINE_BREAK.sub(" ", message.strip()))
    with contextlib.suppress(OSError, ValueError):  # its reader has ended
        print(f"jaxkd: {line}", file=sys.stderr, flush=True)
