"""Text for people: visible names from files, counted nouns, and short values."""

import os
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any

# Control characters, lone surrogates, and the separators of lines and paragraphs.
_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
# Characters that change the order in which the text around them is shown.
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e") | {
    chr(code) for code in range(0x2066, 0x206A)
}


def printable(text: str) -> str:
    r"""Replace what a terminal would obey, or cannot show, with visible escapes.

    File names, class names and names of tensors come from files that somebody else may
    have written. They can contain escape sequences, line breaks, marks that reverse
    the reading order, and bytes that are not UTF-8.

    Example:
        >>> from jaxkd._text import printable
        >>> print(printable("cat\x1b[2J\n\udcff é"))
        cat\x1b[2J\n\udcff é
    """
    if text.isprintable():  # usual, and quick
        return text
    return "".join(map(_visible, text))


def shell_line(words: Iterable[str]) -> str:
    """Quote words for a shell, as a line that can be printed and copied.

    Bash, zsh and ksh read the escapes in ``$'...'``, which only words with control
    characters need.
    """
    return " ".join(map(_quoted, words))


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 seed``, ``2,000 seeds``.

    Args:
        number: The number.
        noun: Its noun in the singular.
        plural: The plural, if that is not the singular with an ``s``.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shortened(text: str, longest: int = 60) -> str:
    """Return text of at most this many characters; an ellipsis marks the rest."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def array_type(array: Any) -> str:
    """Describe an array by dtype and shape, or anything else by its own repr.

    Example:
        >>> import numpy as np
        >>> from jaxkd._text import array_type
        >>> array_type(np.zeros((2, 3), np.float32))
        'float32[2,3]'
    """
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or dtype is None:
        return shortened(repr(array))
    return f"{dtype}[{','.join(map(str, shape))}]"


def _quoted(word: str) -> str:
    if printable(word) == word:
        return shlex.quote(word)
    escaped = (
        x
        if printable(x) == x and x not in "\\'"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(x))
        for x in word
    )
    return f"$'{''.join(escaped)}'"


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in _CATEGORIES
    if not hidden and character not in _BIDIRECTIONAL:
        return character
    return character.encode("unicode_escape").decode("ascii")
