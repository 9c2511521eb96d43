"""Values of ``--settings`` and ``--optimizer-settings``."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._text import shortened


def parse_value(text: str) -> Any:
    """Parse a number, a list, true, false or null as JSON; return other text as is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # not JSON, thousands of digits, or deep lists
        return float(text) if text in ("inf", "-inf", "nan") else text


def check_values(
    values: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    prefix: str,
) -> None:
    """Check the types of values against the parameters that they are for.

    The functions that take them compute with them at once, or not before the first
    step, so a wrong type would end in an error of NumPy or XLA.

    Args:
        values: Values by the name of their parameter.
        parameters: Parameters of the function that takes the values.
        prefix: What an argument's name starts with in an error.

    Raises:
        InvalidInputError: If a value has the wrong type.
    """
    for name, value in values.items():
        argument = f"{prefix}.{name}"
        expected = _expected(value, parameters[name])
        if expected is not None:
            raise InvalidInputError(
                f"{name} must be {expected}, got {shortened(_json.dumps(value))}",
                argument=argument,
            )


def _expected(value: Any, parameter: inspect.Parameter) -> str | None:
    """Return what a parameter takes, or ``None`` if the value is of that kind."""
    default, annotation = parameter.default, str(parameter.annotation)
    if "mask" in parameter.name:
        return "left out: masks cannot be given on the command line"
    if "dtype" in parameter.name:
        fits = _is_dtype(value) or (value is None and default is None)
        return None if fits else "a dtype such as bfloat16"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if parameter.annotation is int:
        return None if _is_integer(value) else "an integer"
    if isinstance(default, int | float):
        return None if _is_number(value) else "a number"
    if isinstance(default, tuple):
        fits = isinstance(value, list) and all(map(_is_number, value))
        example = json.dumps(default, separators=(",", ":"))
        return None if fits else f"a list of numbers such as {example}"
    if isinstance(default, str):
        return None if isinstance(value, str) else f"a word such as {default}"
    if default is None and "float" in annotation:
        return None if value is None or _is_number(value) else "a number or null"
    if default is None and "int" in annotation:
        return None if value is None or _is_integer(value) else "an integer or null"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_dtype(value: Any) -> bool:
    try:
        return isinstance(value, str) and jnp.dtype(value) is not None
    except (TypeError, ValueError, SyntaxError):  # NumPy parses it as a literal
        return False
