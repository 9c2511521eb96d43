"""Messages on stderr, beside a command's own output."""

import sys


def say(message: str) -> None:
    """Print a message as one line on stderr."""
    print(f"jaxkd: {' '.join(message.split())}", file=sys.stderr, flush=True)
