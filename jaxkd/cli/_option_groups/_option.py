"""The description of an option."""

import tyro


def option(help: str | None = None, *, default: str | None = None) -> object:
    """Describe an option whose help text or default does not fit into one line.

    Args:
        help: Help text. By default, the docstring below the field.
        default: Description of the default value, in place of ``None``.
    """
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(help=help, help_behavior_hint=hint)
