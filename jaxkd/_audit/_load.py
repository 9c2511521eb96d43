"""Load a function from ``module:function`` or ``path/to/file.py:function``."""

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxkd._audit._subject import first_line
from jaxkd._errors import InvalidInputError, unknown_name


def load(target: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        target: ``module:function``, with modules of the current folder first, or
            ``path/to/file.py:function``.

    Raises:
        InvalidInputError: If there is no such module, file or function, or if the
            module cannot be imported.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise InvalidInputError(
            f"{target} must be module:function or path/to/file.py:function",
            argument="target",
        )
    try:
        is_file = where.endswith(".py") or os.sep in where
        module = _from_file(Path(where)) if is_file else _from_path(where)
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"cannot import {where}: {type(error).__name__}: {first_line(error)}",
            argument="target",
        ) from error
    try:
        loss = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        known = [each for each in vars(module) if callable(getattr(module, each))]
        raise unknown_name(
            f"function in {where}", name, known, argument="target"
        ) from None
    if not callable(loss):
        raise InvalidInputError(
            f"{target} is {type(loss).__name__}, not a function", argument="target"
        )
    return loss


def _from_path(name: str) -> ModuleType:
    """Import a module; those of the current folder take precedence."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def _from_file(path: Path) -> ModuleType:
    """Import a file, which can import others of its folder."""
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}", argument="target")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"{path} is not a Python file", argument="target")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module
