"""Metrics on Weights & Biases, for those who have it (extra ``wandb``)."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

from jaxkd._errors import InvalidInputError

# Which of W&B's runs continues this one.
_ID = "wandb.json"


def require() -> Any:
    """The ``wandb`` module.

    Raises:
        ValueError: If it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise InvalidInputError(
            "--wandb needs Weights & Biases; install it in the checkout: "
            "pip install '.[wandb]', or leave the option out"
        ) from None


class WandbWriter:
    """Sends every epoch's record to Weights & Biases.

    Where to, and whether at all, is W&B's own affair: ``wandb login``, or
    ``WANDB_MODE=offline`` for a machine without a network.

    Args:
        project: The project's name.
        run: The run folder; what W&B keeps on disk goes there, too. If W&B has seen the
            folder before, its run is continued.
        config: The run's configuration.
    """

    def __init__(self, project: str, run: Path, config: dict[str, Any]):
        path = run / _ID
        known = json.loads(path.read_text())["id"] if path.exists() else None
        self._run = require().init(
            project=project,
            name=run.name,
            config=config,
            dir=str(run),
            id=known,
            resume="allow",
        )
        path.write_text(json.dumps({"id": self._run.id}) + "\n")

    def __call__(self, record: dict[str, Any]) -> None:
        """Sends one record; it must have a ``step``."""
        numbers = {
            name: value
            for name, value in record.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        self._run.log(numbers, step=record["step"])

    def close(self) -> None:
        """Ends W&B's run."""
        self._run.finish()
