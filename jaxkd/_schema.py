"""The schema of a JSON file that may have been edited, or come from anywhere.

Entries that a schema does not list are ignored, because a newer version may have
written them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxkd import _json
from jaxkd._text import shortened

_INT32 = 2**31 - 1


class Kind(NamedTuple):
    """A kind of values: how to recognize one, and its description."""

    accepts: Callable[[Any], bool]
    wanted: str


class Entry(NamedTuple):
    """An entry of a JSON file, by its path: ``network.width``."""

    path: str
    kind: Kind
    required: bool = False


def is_integer(value: Any, low: int = -_INT32 - 1, high: int = _INT32) -> bool:
    """Return whether a value is an integer of JSON within limits."""
    return type(value) is int and low <= value <= high


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or the text of a non-finite one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000  # larger integers do not fit into floats
    return isinstance(value, float) or value in ("nan", "inf", "-inf")


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return is_number(value) and math.isfinite(float(value))


def is_text(value: Any) -> bool:
    """Return whether a value is a string."""
    return isinstance(value, str)


def optional(kind: Kind) -> Kind:
    """Return the kind of values that may also be null."""
    return Kind(lambda x: x is None or kind.accepts(x), f"{kind.wanted}, or null")


def list_of(kind: Kind, wanted: str, lengths: Iterable[int] | None = None) -> Kind:
    """Return the kind of lists with items of a kind, and of certain lengths."""

    def accepts(value: Any) -> bool:
        fits = isinstance(value, list) and (lengths is None or len(value) in lengths)
        return fits and all(map(kind.accepts, value))

    return Kind(accepts, wanted)


def one_of(names: Sequence[str]) -> Kind:
    """Return the kind of strings that are one of some names."""
    return Kind(lambda x: is_text(x) and x in names, "one of " + ", ".join(names))


OBJECT = Kind(lambda x: isinstance(x, dict), "an object")
TEXT = Kind(is_text, "a string")
FLAG = Kind(lambda x: isinstance(x, bool), "true or false")
INTEGER = Kind(is_integer, "an integer of 32 bits")
POSITIVE = Kind(lambda x: is_integer(x, 1), f"an integer from 1 to {_INT32}")
NOT_NEGATIVE = Kind(lambda x: is_integer(x, 0), f"an integer from 0 to {_INT32}")
COUNT = Kind(lambda x: is_integer(x, 1, 2**63), "a positive integer")
NUMBER = Kind(is_number, "a number")
FINITE = Kind(is_finite, "a finite number")
SPEED = Kind(lambda x: is_finite(x) and float(x) >= 0, "a number of at least 0")
FRACTION = Kind(lambda x: is_finite(x) and 0 <= float(x) <= 1, "a number from 0 to 1")
IMAGE_SHAPE = list_of(
    Kind(lambda x: is_integer(x, 1, 2**16), ""),
    "three integers from 1 to 65536: height, width, channels",
    (3,),
)
VALUE_RANGE = list_of(FINITE, "two finite numbers: the values of black and white", (2,))
CROP_SCALE = list_of(FRACTION, "two shares of the area, from 0 to 1", (2,))
RANDAUGMENT = Kind(
    lambda x: (
        isinstance(x, list)
        and len(x) == 2
        and POSITIVE.accepts(x[0])
        and FINITE.accepts(x[1])
    ),
    "a number of operations and a magnitude",
)


def check(
    file: Path | str,
    content: dict[str, Any],
    entries: Sequence[Entry],
    damaged: _json.Damaged,
) -> None:
    """Check the entries of a file. An object that is absent needs no entries.

    Raises:
        InvalidInputError: Naming the file, the entry, its value and what was expected.
    """
    for entry in entries:
        *sections, name = entry.path.split(".")
        inner: Any = content
        for section in sections:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if inner is None:
            continue
        if name not in inner:
            if entry.required:
                raise damaged(file, f"it has no {entry.path}")
        elif not entry.kind.accepts(inner[name]):
            found, wanted = inner[name], entry.kind.wanted
            raise damaged(file, is_wrong(entry.path, found, wanted))


def is_wrong(path: str, value: Any, wanted: str) -> str:
    """Describe an entry with a value that cannot be right."""
    return f"{path} is {shown(value)}, but it must be {wanted}"


def shown(value: Any) -> str:
    """Show a value as its file does, shortened."""
    return shortened(_json.dumps(value))
