"""Messages on stderr, beside a command's own output."""

import contextlib
import sys


def say(message: str) -> None:
    """Print a message as one line on stderr, if that can be written."""
    with contextlib.suppress(OSError, ValueError):  # its reader has ended
        print(f"jaxkd: {' '.join(message.split())}", file=sys.stderr, flush=True)
