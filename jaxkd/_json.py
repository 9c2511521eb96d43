"""JSON that every reader can read: it has no numbers for infinity and NaN."""

import json
import math
from typing import Any


def strict(value: Any) -> Any:
    """The value with ``"inf"``, ``"-inf"`` and ``"nan"`` for such floats, at any depth.

    ``float`` turns the strings back into what they were.
    """
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def dumps(value: Any, **settings: Any) -> str:
    """``json.dumps`` of :func:`strict`."""
    return json.dumps(strict(value), allow_nan=False, **settings)
