"""Metrics on Weights & Biases (optional; extra ``wandb``)."""

import importlib
import math
from pathlib import Path
from typing import Any

from jaxkd._errors import InvalidInputError
from jaxkd.runs import RunFolder, read_json, write_json


def require_wandb() -> Any:
    """Import and return the ``wandb`` module.

    Raises:
        ValueError: If it is not installed. The message has the command to install it.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise InvalidInputError(
            "--wandb needs the package wandb, which is not installed. Install it in "
            "the checkout with: pip install '.[wandb]'",
            argument="wandb",
        ) from None


class WandbWriter:
    """Sends the record of each epoch to Weights & Biases.

    Configure the account with ``wandb login``, or set ``WANDB_MODE=offline`` on a
    machine without a network.

    Args:
        project: Name of the project on Weights & Biases.
        run: The run folder, where Weights & Biases also keeps its files. If the folder
            has a run there already, that run is continued.
        config: Contents of the run's ``config.json``.
    """

    def __init__(self, project: str, run: Path, config: dict[str, Any]):
        path = RunFolder(run).wandb
        known = read_json(path)["id"] if path.exists() else None
        self._run = require_wandb().init(
            project=project,
            name=run.name,
            config=config,
            dir=str(run),
            id=known,
            resume="allow",
        )
        write_json(path, {"id": self._run.id})

    def __call__(self, record: dict[str, Any]) -> None:
        """Send one record, which must have a ``step``."""
        numbers = {
            name: value
            for name, value in record.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        self._run.log(numbers, step=record["step"])

    def close(self) -> None:
        """Finish the run on Weights & Biases."""
        self._run.finish()
