"""The files of a run folder: their paths, and safe reading and writing."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from jaxkd import _json
from jaxkd._errors import InvalidInputError


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of everything in a run folder. No other class or module names these files.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Command, options, network, dataset, teacher and versions, as JSON."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON record per epoch, one per line."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """Prefix of TensorBoard's event files with the same metrics."""
        return self.path / "events"

    @property
    def images(self) -> Path:
        """Folder of TensorBoard's event files with images."""
        return self.path / "images"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, as :class:`jaxkd.training.Checkpoints` takes."""
        return self.path / "checkpoints"

    @property
    def summary(self) -> Path:
        """Final and best accuracies, as JSON; written when training ends."""
        return self.path / "summary.json"

    @property
    def curves(self) -> Path:
        """Losses and accuracies over the epochs, as a PNG image."""
        return self.path / "curves.png"

    @property
    def report(self) -> Path:
        """The run's page: one self-contained HTML file."""
        return self.path / "report.html"

    @property
    def profile(self) -> Path:
        """Folder of the profiler's trace."""
        return self.path / "profile"

    @property
    def wandb(self) -> Path:
        """Id of the run on Weights & Biases, as JSON."""
        return self.path / "wandb.json"

    @property
    def lock(self) -> Path:
        """The lock file, which names the process that holds the folder."""
        return self.path / "lock"


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: after a crash, it is complete or not there."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically: after a crash, it is complete or not there."""
    write_text(path, _json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{path} is damaged: {error}. Restore the file, or train the run again.",
            argument="path",
        ) from error
