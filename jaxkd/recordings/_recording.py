"""Read a recording."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd.data import Augmentation, ImageDataset
from jaxkd.distillers import Classifier
from jaxkd.models import ModelOutput
from jaxkd.recordings import _manifest
from jaxkd.recordings._manifest import Manifest
from jaxkd.recordings._not_recorded import NotRecorded
from jaxkd.recordings._views import Views, describe, is_on

PyTree = Any


def open(path: str | os.PathLike) -> "Recording":
    """Open a recording for reading."""
    path = expand_home(path, "path")
    return Recording(path, _manifest.read(path))


class Recording:
    """Recorded outputs of a teacher. Nothing is loaded: arrays are memory-mapped."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path, self._manifest = path, manifest
        self._codecs = manifest.codecs()
        epochs = 0 if manifest.views.clean else len(manifest.epochs)
        self.views: Views = manifest.views._replace(epochs=epochs)
        self.outputs = tuple(manifest.outputs)
        self.class_names = manifest.class_names
        self.num_classes = len(manifest.class_names)
        self.teacher = manifest.teacher
        self.load_options = manifest.load_options
        self.classifier: Classifier | None = None
        self.fingerprint = f"{hash(str(manifest.epochs)) & 0xFFFFFFFF:08x}"
        self._maps: dict[tuple[int, str], np.ndarray] = {}

    def abstract(self, batch_size: int) -> ModelOutput:
        """Return the shapes and dtypes of the teacher's output for a batch."""
        return self._assemble(
            {
                name: jax.ShapeDtypeStruct((batch_size, *codec.shape), jnp.float32)
                for name, codec in self._codecs.items()
            }
        )

    def check(
        self,
        dataset: ImageDataset,
        *,
        augmentation: Augmentation | None,
        batch_size: int,
        data_seed: int,
        epochs: int,
    ) -> None:
        """Check that a training run shows its student the recorded images."""
        del epochs, batch_size, data_seed
        if dataset.fingerprint != self.views.fingerprint:
            raise InvalidInputError("other dataset", argument="dataset")
        if self.views.clean and is_on(augmentation):
            raise InvalidInputError(
                f"augmentation {describe(augmentation)}", argument="recorded"
            )

    def stored(self, step: int, rows: np.ndarray) -> PyTree:
        """Return the stored form of one batch."""
        if self.views.clean:
            epoch, where = 0, np.asarray(rows)
        else:
            steps, size = self.views.steps_per_epoch, self.views.batch_size
            epoch, position = divmod(step, steps)
            where = slice(position * size, (position + 1) * size)
        return {
            name: {
                suffix: np.array(self._map(epoch, part)[where])
                for suffix, part in codec.parts().items()
            }
            for name, codec in self._codecs.items()
        }

    def decode(self, stored: PyTree) -> ModelOutput:
        """Return the teacher's output for a batch, from its stored form."""
        return self._assemble(
            {name: codec.decode(stored[name]) for name, codec in self._codecs.items()}
        )

    def _map(self, epoch: int, part: _manifest.Part) -> np.ndarray:
        key = epoch, part.file
        if key not in self._maps:
            rows = self.views.rows_per_epoch
            if self.views.clean:
                rows = self.views.rows
            file = self.path / _manifest.folder_of(self._manifest.views, epoch)
            self._maps[key] = np.memmap(
                file / part.file,
                dtype=part.dtype,
                mode="r",
                offset=len(_manifest.header(part, rows)),
                shape=(rows, *part.shape),
            )
        return self._maps[key]

    def _assemble(self, found: dict[str, Any]) -> ModelOutput:
        """Build an output; what was not recorded is a placeholder."""

        def missing(name: str, maps: int = 0) -> Any:
            return NotRecorded(name, str(self.path), self.outputs, maps)

        def maps(kind: str) -> Any:
            known = [*found, *self._manifest.available]
            numbers = [int(x.split(".")[1]) for x in known if x.startswith(f"{kind}.")]
            count = max(numbers, default=-1) + 1
            names = [f"{kind}.{i}" for i in range(count)]
            if self._manifest.available and not count:
                return ()
            if not any(name in found for name in names):
                return missing(kind, count)
            return tuple(found.get(name, missing(name)) for name in names)

        logits, embedding = (
            found.get(name, missing(name)) for name in ("logits", "embedding")
        )
        return ModelOutput(logits, embedding, maps("stages"), maps("preactivations"))
