"""Refuse to overwrite."""

import os
from pathlib import Path

from jaxkd._errors import InvalidInputError


def check_free(path: Path) -> None:
    """Raise unless nothing has this path.

    Raises:
        InvalidInputError: If there is a file, a folder, or a link.
    """
    if os.path.lexists(path):  # a link to nothing, too, is somebody's
        raise InvalidInputError(
            f"{path} exists already; choose another path", argument="path"
        )
