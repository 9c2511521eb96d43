"""Paths of layers, such as ``blocks.2``, and the layers of a network that they name."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxkd._errors import InvalidInputError

Path = tuple[str, ...]

_CALL = re.compile(r"(?P<path>.*)\[(?P<call>\d+)\]")
_FROM_THE_END = re.compile(r"-\d+")
_ALL = "*"


class Named(NamedTuple):
    """A layer that a path names.

    Attributes:
        path: Path of the layer, without wildcards.
        call: Which of its calls is meant, or None if the path does not say.
    """

    path: Path
    call: int | None


def joined(path: Path) -> str:
    """Return a path as users write it."""
    return ".".join(path)


def find_layers(pattern: str, known: Sequence[Path]) -> list[Named]:
    """Return the layers that a path names, in the order of the network.

    Args:
        pattern: Names of attributes and positions in lists, from the network to the
            layer: ``"blocks.2.mlp"``. A negative position counts from the end, and
            ``*`` stands for all positions of a list, or for all layers of a module.
            ``[1]`` at the end stands for the second call of a layer.
        known: Paths of the network's layers.

    Raises:
        InvalidInputError: If no layer has such a path. The message suggests others.
    """
    given = pattern.strip()
    match = _CALL.fullmatch(given)
    base, call = (match["path"], int(match["call"])) if match else (given, None)
    prefixes: list[Path] = [()]
    for part in base.split("."):
        prefixes = [
            (*prefix, child)
            for prefix in prefixes
            for child in _chosen(part, _children(prefix, known))
        ]
    if not (found := [path for path in prefixes if path in set(known)]):
        raise InvalidInputError(
            f"no layer has the path {pattern!r}{_suggestion(base, known)}",
            argument="layers",
        )
    return [Named(path, call) for path in found]


def _children(prefix: Path, known: Sequence[Path]) -> list[str]:
    """Return the names that follow a prefix in the known paths, in their order."""
    depth = len(prefix)
    names = [p[depth] for p in known if len(p) > depth and p[:depth] == prefix]
    return list(dict.fromkeys(names))


def _chosen(part: str, children: list[str]) -> list[str]:
    """Return the names that one part of a path stands for."""
    positions = sorted((name for name in children if name.isdecimal()), key=int)
    if part == _ALL:
        return positions or children
    if _FROM_THE_END.fullmatch(part):
        index = int(part)
        return [positions[index]] if -len(positions) <= index else []
    return [part] if part in children else []


def _suggestion(base: str, known: Sequence[Path]) -> str:
    """Return the nearest known paths, for an error."""
    names = [joined(path) for path in known]
    if not names:
        return ": the network has no layers that can be named"
    near = difflib.get_close_matches(base, names, n=3, cutoff=0.4)
    # A path that is right at its beginning is continued.
    parts = base.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        start = ".".join(parts[:depth]) + "."
        if below := [name for name in names if name.startswith(start)]:
            near = list(dict.fromkeys([*near, *below[:3]]))
            break
    near = near or names[:3]
    return (
        f"; did you mean {' or '.join(map(repr, near[:3]))}? `jaxkd layers`, or "
        "models.layers(network, images), lists all paths"
    )
