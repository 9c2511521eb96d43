"""Standard JSON, in which infinity and NaN are strings; and files that hold it."""

import collections
import json
import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LARGEST = 1 << 28  # bytes; a run of ten thousand epochs and ten trials writes less
_DEEPEST = 50

Damaged = Callable[[Path | str, str], Exception]
"""``(file, problem) -> error``: adds the remedy for files of a kind."""


def strict(value: Any) -> Any:
    """Replace non-finite floats by ``"inf"``, ``"-inf"`` and ``"nan"``, at any depth.

    ``float`` converts these strings back.
    """
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def dumps(value: Any, **settings: Any) -> str:
    """Serialize the result of :func:`strict` with ``json.dumps``."""
    return json.dumps(strict(value), allow_nan=False, **settings)


def read_text(path: Path, damaged: Damaged) -> str:
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


def parse(text: str, path: Path | str, damaged: Damaged) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: The JSON text.
        path: The file, for messages.
        damaged: Builds the error for the file.

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
