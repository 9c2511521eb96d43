"""The errors jaxkd raises on purpose."""

import difflib
from collections.abc import Iterable


class InvalidInputError(ValueError):
    """An argument, a file or a setting cannot be used as it is.

    The message names the argument, its value, and the remedy. The command line prints
    it as one line, with the argument's flag, and exits with code 2.

    Attributes:
        argument: The name of the offending argument, or None if there is no single one.
    """

    def __init__(self, message: str, *, argument: str | None = None):
        super().__init__(message)
        self.argument = argument


class InvalidTypeError(TypeError):
    """An argument has the wrong type or dtype.

    Attributes:
        argument: The name of the offending argument, or None if there is no single one.
    """

    def __init__(self, message: str, *, argument: str | None = None):
        super().__init__(message)
        self.argument = argument


class DivergenceError(ArithmeticError):
    """Training stopped because the loss stopped being finite.

    Attributes:
        step: How many steps led to the first state that is known to be spoilt.
    """

    def __init__(self, message: str, *, step: int):
        super().__init__(message)
        self.step = step


class Interrupted(Exception):
    """Training ended early because it was asked to; it can be continued.

    Attributes:
        step: The number of steps taken.
    """

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


def unknown_name(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    others: str = "",
    argument: str | None = None,
) -> InvalidInputError:
    """Builds the error for a name that is in no registry, with the nearest names.

    Args:
        kind: What the name is of.
        name: What came.
        known: The names there are.
        others: What else there is, in words, where the names are not all.
        argument: The argument that held the name; by default ``kind``.
    """
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if nearest:
        hint = f"did you mean {' or '.join(map(repr, nearest))}?"
    else:
        hint = f"known: {', '.join(known)}{others}"
    return InvalidInputError(
        f"unknown {kind} {name!r}; {hint}", argument=argument or kind
    )
