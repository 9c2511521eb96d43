"""Read and write the text files of a run folder."""

from pathlib import Path
from typing import Any

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole

_TRAIN_AGAIN = "Restore the file, or train the run again."


def damaged(
    path: Path | str, problem: str, *, remedy: str = _TRAIN_AGAIN
) -> InvalidInputError:
    """Build the error for a file whose contents cannot be used."""
    return InvalidInputError(f"{path} is damaged: {problem}. {remedy}", argument="path")


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        FileNotFoundError: If there is no such file.
        InvalidInputError: If it is not a regular file, too large, or not UTF-8.
    """
    return _json.read_text(path, damaged)


def parse_json(text: str, path: Path | str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: The JSON text.
        path: The file, for messages.

    Raises:
        InvalidInputError: If it is not valid JSON, not an object, too deeply nested, or
            has a key twice.
    """
    return _json.parse(text, path, damaged)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that contains one JSON object.

    Raises:
        FileNotFoundError: If there is no such file.
        InvalidInputError: If the file is damaged.
    """
    return parse_json(read_text(path), path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically: after a crash, it is complete or not there."""
    write_whole(path, (_json.dumps(content, indent=2) + "\n").encode())
