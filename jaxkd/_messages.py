"""Messages to the user on stderr."""

import sys


def say(message: str) -> None:
    """Print the message as one line on stderr."""
    print(f"jaxkd: {' '.join(message.split())}", file=sys.stderr, flush=True)
