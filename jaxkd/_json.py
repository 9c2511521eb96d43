"""Standard JSON, in which infinity and NaN are strings."""

import json
import math
from typing import Any


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
