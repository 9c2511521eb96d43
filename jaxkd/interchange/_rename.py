"""Replace the beginnings of names in state dicts."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from jaxkd._errors import InvalidInputError
from jaxkd.interchange._select import (
    describe_prefixes,
    with_names,
    without_shared_prefix,
)

Value = TypeVar("Value")
Pairs = Sequence[tuple[str, str]]


def rename(state: Mapping[str, Value], pairs: Pairs) -> dict[str, Value]:
    """Replace prefixes of the names in a state dict.

    In a prefix, ``*`` stands for a component of the name or a part of it, that is, for
    one or more characters without a dot. The ``*`` of the replacement are these
    characters, in the same order.

    Args:
        state: A state dict.
        pairs: Prefixes and their replacements, applied one after the other. Components
            that all names share may be left out.

    Returns:
        The state dict with the new names, without shared components.

    Raises:
        InvalidInputError: If no name has a prefix, a replacement has more ``*`` than
            its prefix, or two names become the same.

    Example:
        >>> from jaxkd import interchange
        >>> state = {"stem.weight": 0.0, "head.weight": 1.0}
        >>> interchange.rename(state, [("stem.", "conv1."), ("head.", "fc.")])
        {'conv1.weight': 0.0, 'fc.weight': 1.0}
        >>> state = {"layer_0.ln.weight": 0.0, "layer_1.ln.weight": 1.0}
        >>> interchange.rename(state, [("layer_*.ln.", "blocks.*.norm.")])
        {'blocks.0.norm.weight': 0.0, 'blocks.1.norm.weight': 1.0}
    """
    if not pairs:
        return dict(state)
    result, shared = without_shared_prefix(state)
    for pair in pairs:
        old, new = (text.removeprefix(shared) for text in pair)
        if new.count("*") > old.count("*"):
            raise InvalidInputError(
                f"rename has more * in the replacement {pair[1]!r} than in "
                f"{pair[0]!r}. Each * of the replacement is what one * of the prefix "
                "stands for.",
                argument="rename",
            )
        names = _renamed(result, old, new)
        if names is None:
            raise InvalidInputError(
                f"rename {pair[0]!r} is not the beginning of any name; names begin "
                f"with {describe_prefixes(result)}.",
                argument="rename",
            )
        result = with_names(result, names, argument="rename")
    return result


def replace_prefixes(state: Mapping[str, Value], pairs: Pairs) -> dict[str, Value]:
    """Replace prefixes as :func:`rename` does, if any name has them."""
    result = dict(state)
    for old, new in pairs:
        names = _renamed(result, old, new)
        if names is not None:
            result = with_names(result, names, argument="state")
    return result


def _renamed(state: Mapping[str, Value], old: str, new: str) -> dict[str, str] | None:
    """Return the new name of each name; None if none has the prefix."""
    prefix = re.compile("([^.]+)".join(map(re.escape, old.split("*"))))
    names, changed = {}, False
    for name in state:
        found = prefix.match(name)
        names[name] = name
        if found is not None:
            changed = True
            parts = iter(found.groups())
            filled = re.sub(r"\*", lambda _, parts=parts: next(parts), new)
            names[name] = filled + name[found.end() :]
    return names if changed else None
