"""Exceptions that jaxkd raises."""

import difflib
from collections.abc import Iterable

from jaxkd._text import shortened


class InvalidInputError(ValueError):
    """An argument, file or setting cannot be used.

    The message gives the argument's name, its value, and the remedy. The command line
    prints the message in one line, with the argument's flag, and exits with code 2.

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
    """Training stopped because the loss or the state was not finite.

    Attributes:
        step: Number of steps after which the state was first found to be non-finite.
    """

    def __init__(self, message: str, *, step: int):
        super().__init__(message)
        self.step = step


class Interrupted(Exception):
    """Training was asked to stop before its end. The run can be resumed.

    Attributes:
        step: Number of steps taken.
    """

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


def unknown_name(
    kind: str,
    name: object,
    known: Iterable[str],
    *,
    others: str = "",
    argument: str | None = None,
) -> InvalidInputError:
    """Build the error for an unknown name, with suggestions.

    Args:
        kind: Kind of the named object, such as ``"model"``.
        name: The unknown name.
        known: All known names.
        others: Text appended to the list of known names if that list is incomplete.
        argument: Argument that held the name; by default ``kind``.

    Returns:
        An error that suggests the closest known names, or lists all of them if none
        is close.
    """
    known, name = sorted(known), str(name)
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if nearest:
        hint = f"did you mean {' or '.join(map(repr, nearest))}?"
    else:
        hint = f"known: {', '.join(known)}{others}"
    return InvalidInputError(
        f"unknown {kind} {shortened(name)!r}; {hint}", argument=argument or kind
    )
