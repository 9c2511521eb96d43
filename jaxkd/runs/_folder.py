"""The paths of the files of a run folder."""

import dataclasses
import os
from pathlib import Path

from jaxkd._files import expand_home


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of everything in a run folder. No other class or module names these files.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike) -> "RunFolder":
        """Return the folder at a path that may begin with ``~``.

        Raises:
            InvalidInputError: If there is no such user.
        """
        return cls(expand_home(path, "path"))

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
    def best(self) -> Path:
        """Folder of the networks with the best validation accuracy."""
        return self.path / "checkpoints-best"

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
    def results(self) -> Path:
        """The page's numbers of the test set, as JSON, for a comparison of runs."""
        return self.path / "report.json"

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
