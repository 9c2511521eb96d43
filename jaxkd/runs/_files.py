"""Read and write the text files of a run folder."""

import collections
import json
import stat
from pathlib import Path
from typing import Any

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole

_LARGEST = 1 << 28  # bytes; a run of ten thousand epochs and ten trials writes less
_DEEPEST = 50
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
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise damaged(path, f"it is {kind}")
    if status.st_size > _LARGEST:
        raise damaged(path, f"it has {status.st_size / 1e9:.1f} GB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, f"it is not UTF-8 text ({error.reason})") from error


def parse_json(text: str, path: Path | str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: The JSON text.
        path: The file, for messages.

    Raises:
        InvalidInputError: If it is not valid JSON, not an object, too deeply nested, or
            has a key twice.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise damaged(path, "it is too deeply nested") from None
    except ValueError as error:
        raise damaged(path, f"{error}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise damaged(path, f"it must contain a JSON object, got {kind}")
    if _is_deeper(content, _DEEPEST):
        raise damaged(path, "it is too deeply nested")
    return content


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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; raise if a key occurs twice, which jaxkd never writes."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]!r} occurs twice")
    return found


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)
