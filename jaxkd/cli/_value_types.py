"""How words of the command line become values, and what a wrong word is told.

Imports no JAX, so that ``--help`` is fast.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxkd._files import expand_home

VALUE_TYPES = tyro.constructors.ConstructorRegistry()


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"expected a number, got {word!r}") from None


def _integer(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"expected an integer, got {word!r}") from None


_KINDS: dict[type, tuple[str, Callable[[str], Any]]] = {
    int: ("INT", _integer),
    float: ("FLOAT", _number),
    str: ("STR", str),
    Path: ("PATH", expand_home),
}
_ONE_WORD: dict[Any, tuple[type, bool]] = {
    **{kind: (kind, False) for kind in _KINDS},
    **{kind | None: (kind, True) for kind in _KINDS},
}
"""Kind of a type of one word, and whether ``None`` is allowed."""
_EXAMPLES: dict[type, str] = {
    float: "pairs of a part and its weight, such as ce 1 kd 0.5",
    int: "pairs of a part and its number of epochs, such as dkd 20",
    str: "pairs of a name and a value, such as b1 0.9",
}


@VALUE_TYPES.primitive_rule
def _one_word(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read an integer, a number, a text or a path; ``None`` where that is allowed."""
    found = _ONE_WORD.get(info.type)
    return None if found is None else _spec_of_one_word(*found)


# tyro asks for every option of every command: each specification is built once.
@functools.cache
def _spec_of_one_word(kind: type, optional: bool) -> PrimitiveConstructorSpec:
    metavar, read = _KINDS[kind]

    def from_words(words: list[str]) -> Any:
        return None if optional and words[0] == "None" else read(words[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=from_words,
        is_instance=lambda x: isinstance(x, kind) or (optional and x is None),
        str_from_instance=lambda x: [str(x)],
    )


@VALUE_TYPES.primitive_rule
def _numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read any number of numbers; ``None`` where that is allowed."""
    numbers = tuple[float, ...]
    if info.type not in (numbers, numbers | None):
        return None
    return _spec_of_numbers(optional=info.type != numbers)


@functools.cache
def _spec_of_numbers(*, optional: bool) -> PrimitiveConstructorSpec:
    def from_words(words: list[str]) -> tuple[float, ...] | None:
        return None if optional and words == ["None"] else tuple(map(_number, words))

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[FLOAT ...]",
        instance_from_str=from_words,
        is_instance=lambda x: isinstance(x, tuple) or (optional and x is None),
        str_from_instance=lambda x: [str(x)] if x is None else [str(y) for y in x],
    )


@VALUE_TYPES.primitive_rule
def _pairs(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read pairs of a name and a value; a name must not come twice."""
    kinds: dict[Any, type] = {dict[str, kind]: kind for kind in _EXAMPLES}
    if info.type not in kinds:
        return None
    return _spec_of_pairs(kinds[info.type])


@functools.cache
def _spec_of_pairs(kind: type) -> PrimitiveConstructorSpec:
    metavar, read = _KINDS[kind]

    def from_words(words: list[str]) -> dict[str, Any]:
        names, values = words[::2], words[1::2]
        if len(names) != len(values):
            raise ValueError(f"expected {_EXAMPLES[kind]}; got {' '.join(words)!r}")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice")
        return dict(zip(names, map(read, values), strict=True))

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"[NAME {metavar} ...]",
        instance_from_str=from_words,
        is_instance=lambda x: isinstance(x, dict),
        str_from_instance=lambda x: [str(word) for pair in x.items() for word in pair],
    )


_PAIRS: dict[Any, tuple[str, Callable[[str], Any], str]] = {
    tuple[int, float] | None: (
        *("INT FLOAT", _integer),
        "the number of operations and their magnitude, such as 2 9",
    ),
    tuple[float, float] | None: (
        *("FLOAT FLOAT", _number),
        "two numbers, such as 0 1",
    ),
}
"""Names of the kinds of two numbers, how the first is read, and what they are."""


@VALUE_TYPES.primitive_rule
def _pair(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read two numbers, or ``None``."""
    return _spec_of_pair(info.type) if info.type in _PAIRS else None


@functools.cache
def _spec_of_pair(kind: Any) -> PrimitiveConstructorSpec:
    metavar, read_first, expected = _PAIRS[kind]

    def from_words(words: list[str]) -> tuple[float | int, float] | None:
        if words == ["None"]:
            return None
        if len(words) != 2:
            raise ValueError(f"expected {expected}; got {' '.join(words)!r}")
        return read_first(words[0]), _number(words[1])

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=from_words,
        is_instance=lambda x: x is None or isinstance(x, tuple),
        str_from_instance=lambda x: [str(x)] if x is None else [str(y) for y in x],
    )
