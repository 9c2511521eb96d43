"""What the command line says beside a command's own output."""

import sys


def say(message: str) -> None:
    """Prints one line on stderr, whatever the message."""
    print(f"jaxkd: {' '.join(message.split())}", file=sys.stderr, flush=True)
