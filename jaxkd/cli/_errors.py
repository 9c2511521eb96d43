"""Error messages that name the flag the user typed."""

import dataclasses
import re
from typing import Any

from jaxkd.cli._options import Distill, HolisticOptions

_SAME = {
    "every_steps": "checkpoint_every",
    "every_minutes": "checkpoint_minutes",
    "ema_decay": "ema",
    "n": "subset",
    "fraction": "validation",
    "name": "dataset",
    "trial": "teacher_trial",
    "num_ops": "randaugment",
    "randaugment_operations": "randaugment",
    "randaugment_magnitude": "randaugment",
    "recipe": "method",
    "part of a recipe": "settings",
    "part": "settings",
    "norm": "clip_norm",
    "steps": "accumulate",
    "warmup_epochs": "weight_warmup",
}
"""Options by the names that the library has for their arguments."""

_POSITIONAL = {"run", "runs", "checkpoint", "name", "images", "network", "target"}


def message_for(error: Exception, options: Any) -> str:
    """Return an error's message with the flag in place of the argument's name.

    Args:
        error: An error of the library, which may say in ``argument`` what it is about.
        options: The options of the command that raised it.
    """
    message = str(error)
    argument = getattr(error, "argument", None)
    if argument is None:
        return message
    flag = flag_of(argument, options)
    if flag is None or flag in message:
        return message
    name = argument.rpartition(".")[2]
    if re.match(rf"{re.escape(name)}\b", message):
        return flag + message[len(name) :]
    return f"{flag}: {message}"


def flag_of(argument: str, options: Any) -> str | None:
    """Return the flag that gives an argument of the library its value.

    Args:
        argument: Name of the argument; ``crd.dim`` for a setting of a part, and
            ``optimizer_settings.b1`` for one of an optimizer.
        options: The options of a command.

    Returns:
        The flag, such as ``--hkd.dim`` or ``--settings crd.dim``; ``None`` if the
        command line has none for it.
    """
    fields = _fields(options)
    if argument not in fields:
        argument = _SAME.get(argument, argument)
    part, dot, name = argument.rpartition(".")
    if part == "optimizer_settings":
        return f"--optimizer-settings {name}"
    if dot and isinstance(options, Distill):
        return _flag_of_part(part, name, options)
    if argument in fields:
        if argument in _POSITIONAL:
            return None
        return f"--{argument.rstrip('_').replace('_', '-')}"
    if isinstance(options, Distill):
        return _flag_of_setting(argument, options)
    return None


def _fields(options: Any) -> set[str]:
    """Return the names of all options without a prefix."""
    names = set()
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if not dataclasses.is_dataclass(value):
            names.add(field.name)
        elif not isinstance(value, HolisticOptions):
            names |= _fields(value)
    return names


def _flag_of_part(part: str, name: str, options: Distill) -> str | None:
    """Return the flag of a setting of a known part."""
    if f"{part}.{name}" in options.settings:
        return f"--settings {part}.{name}"
    if (part, name) == ("kd", "temperature"):
        return "--temperature"
    if part == "hkd" and name in _names_of_hkd():
        return f"--hkd.{name.replace('_', '-')}"
    if part == "settings":
        return _flag_of_setting(name, options) or "--settings"
    return f"--settings {part}.{name}"


def _flag_of_setting(name: str, options: Distill) -> str | None:
    """Return the flag of a setting whose part is not known."""
    given = [key for key in options.settings if key.endswith(f".{name}")]
    if len(given) == 1:
        return f"--settings {given[0]}"
    if options.method.startswith("hkd") and name in _names_of_hkd():
        return f"--hkd.{name.replace('_', '-')}"
    return None


def _names_of_hkd() -> set[str]:
    return {field.name for field in dataclasses.fields(HolisticOptions)}
