"""Read a recording."""

import collections
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkd import _checks, _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd._text import count, printable
from jaxkd.data import Augmentation, ImageDataset
from jaxkd.distillers import Classifier
from jaxkd.models import ModelOutput
from jaxkd.recordings import _files, _manifest
from jaxkd.recordings._check import check_run
from jaxkd.recordings._codec import Part
from jaxkd.recordings._manifest import LAYER, Manifest
from jaxkd.recordings._not_recorded import NotRecorded
from jaxkd.recordings._views import Views

PyTree = Any

# Epochs whose files stay open: a call of several steps may end in the next epoch.
_OPEN_EPOCHS = 2


def open(path: str | os.PathLike) -> "Recording":
    """Open a recording for reading.

    The manifest and the sizes of all files are checked. The contents of a file are
    compared with its checksum when it is first read. A recording that was interrupted
    can be opened with the epochs that are complete.

    Args:
        path: Folder of the recording.

    Raises:
        InvalidInputError: If the folder contains no recording or no complete epoch, or
            a file is damaged.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxkd import data, recordings
        >>> dataset, folder = data.load("digits"), tempfile.mkdtemp()
        >>> logits = np.eye(10, dtype=np.float32)[dataset.train.labels]
        >>> recording = recordings.write(folder, dataset, logits=logits)
        >>> recordings.open(folder).num_classes
        10
    """
    path = expand_home(path, "path")
    manifest = _manifest.read(path)
    if not manifest.epochs:
        raise InvalidInputError(
            f"{path} has no complete epoch yet. Continue the recording: run its "
            "`jaxkd record` again.",
            argument="recorded",
        )
    _files.check_sizes(path, manifest)
    return Recording(path, manifest, _files.read_classifier(path, manifest))


class Recording:
    """Recorded outputs of a teacher. Nothing is loaded: arrays are memory-mapped.

    Get one from :func:`open`.

    Attributes:
        path: The folder.
        views: The images that the teacher saw; ``views.epochs`` counts the complete
            epochs.
        outputs: Names of the recorded outputs, such as ``"logits"`` and ``"stages.0"``.
        num_classes: Number of classes.
        class_names: Their names.
        fingerprint: Identifies the teacher's outputs, by their settings and the
            checksums of the first epoch. It stays the same when epochs are added.
        teacher: What is known about the teacher.
        load_options: How the dataset was loaded.
        classifier: The teacher's linear layer from embeddings to logits, if recorded.
        deviations: How far stored outputs are from the teacher's, at most, by output:
            ``values`` in units of the output; for the top k logits, ``probabilities``
            of a class and ``others``, the total probability of those outside the top k,
            at temperature 1, and ``probabilities_at_4`` and ``others_at_4`` at 4.
    """

    def __init__(self, path: Path, manifest: Manifest, classifier: Classifier | None):
        self.path: Path | str = path
        self._folder, self._manifest = path, manifest
        self._codecs = manifest.codecs()
        clean = manifest.views.clean
        self.views: Views = manifest.views._replace(
            epochs=0 if clean else len(manifest.epochs)
        )
        self.outputs: tuple[str, ...] = tuple(manifest.outputs)
        self.class_names = manifest.class_names
        self.num_classes = len(manifest.class_names)
        self.teacher = manifest.teacher
        self.load_options = manifest.load_options
        self.classifier: Classifier | None = classifier
        self.deviations = manifest.deviations
        self.fingerprint = _fingerprint(manifest)
        self._open: collections.OrderedDict[int, dict[str, np.ndarray]]
        self._open = collections.OrderedDict()

    def __repr__(self) -> str:
        """Describe path, images and outputs."""
        views = self.views
        epochs = "clean images" if views.clean else count(views.epochs, "epoch")
        return (
            f"Recording({str(self.path)!r}: {', '.join(self.outputs)} of "
            f"{views.rows:,} rows of {views.dataset}, {epochs})"
        )

    def abstract(self, batch_size: int) -> ModelOutput:
        """Return the shapes and dtypes of the teacher's output for a batch.

        What was not recorded is a :class:`NotRecorded`.
        """
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
        """Check that a training run shows its student the recorded images.

        A recording of clean images fits every batch size, data seed and number of
        epochs.

        Args:
            dataset: The dataset of the run.
            augmentation: The augmentation of the run, or None.
            batch_size: Number of images in a batch.
            data_seed: Seed of order and augmentation.
            epochs: Number of epochs.

        Raises:
            InvalidInputError: Naming the first setting that differs, both values and
                the remedy.
        """
        check_run(
            self.path,
            self.views,
            self.class_names,
            dataset,
            augmentation=augmentation,
            batch_size=batch_size,
            data_seed=data_seed,
            epochs=epochs,
        )

    def stored(self, step: int, rows: np.ndarray) -> PyTree:
        """Read the stored form of one batch.

        Args:
            step: Number of the training step, from 0.
            rows: Row numbers of the batch. They choose the rows of clean images. With
                augmentation, the step chooses them, and ``rows`` are only compared with
                the recorded ones.

        Returns:
            A pytree of NumPy arrays for :meth:`decode`.

        Raises:
            InvalidInputError: If the step or a row was not recorded, the rows are not
                those that the teacher saw at this step, or a file is damaged.
        """
        _checks.check_at_least(0, step=step)
        views, rows = self.views, np.asarray(rows)
        epoch, where = 0, rows
        if views.clean:
            if rows.size and not 0 <= rows.min() <= rows.max() < views.rows:
                raise InvalidInputError(
                    f"rows must lie in [0, {views.rows - 1}], got {rows.min()} to "
                    f"{rows.max()}",
                    argument="rows",
                )
        else:
            epoch, position = divmod(int(step), views.steps_per_epoch)
            start = position * views.batch_size
            where = slice(start, start + views.batch_size)
            if epoch >= views.epochs:
                raise InvalidInputError(
                    f"step {step} is in epoch {epoch + 1}, but {self.path} has "
                    f"{count(views.epochs, 'epoch')}",
                    argument="step",
                )
        files = self._files_of(epoch)
        if self._manifest.ordered and not np.array_equal(
            files[_manifest.ROWS.file][where], rows
        ):
            raise InvalidInputError(
                f"rows of step {step} are not those that the teacher of "
                f"{printable(str(self.path))} saw: the order of the images differs, "
                "perhaps because of another version of JAX. Record again.",
                argument="recorded",
            )
        return {
            name: {
                suffix: np.array(files[part.file][where])
                for suffix, part in codec.parts().items()
            }
            for name, codec in self._codecs.items()
        }

    def decode(self, stored: PyTree) -> ModelOutput:
        """Return the teacher's output for a batch in float32; works inside jit.

        Args:
            stored: What :meth:`stored` returned.
        """
        output = self._assemble(
            {name: codec.decode(stored[name]) for name, codec in self._codecs.items()}
        )
        if self._manifest.top_k is None:
            return output
        top = self._codecs["logits"].decode_top(stored["logits"])
        return output._replace(top_logits=top)

    def logits_of(self, stored: PyTree) -> Float[Array, "batch classes"]:
        """Return only the logits of :meth:`decode`."""
        return self._codecs["logits"].decode(stored["logits"])

    def _files_of(self, epoch: int) -> dict[str, np.ndarray]:
        """Map the files of an epoch, and close those of earlier ones."""
        if epoch not in self._open:

            def opened(part: Part) -> np.ndarray:
                return _files.open_part(self._folder, self._manifest, epoch, part)

            parts = self._manifest.parts()
            self._open[epoch] = {part.file: opened(part) for part in parts}
            while len(self._open) > _OPEN_EPOCHS:
                self._open.popitem(last=False)
        return self._open[epoch]

    def _assemble(self, found: dict[str, Any]) -> ModelOutput:
        """Build an output; what was not recorded is a placeholder."""
        available = self._manifest.available

        def missing(name: str, maps: int = 0) -> NotRecorded:
            return NotRecorded(name, str(self.path), self.outputs, maps)

        def maps_of(kind: str) -> Any:
            names = [x for x in (*found, *available) if x.startswith(f"{kind}.")]
            numbers = [int(name.partition(".")[2]) for name in names]
            maps = max(numbers, default=-1) + 1
            if available and not maps:
                return ()  # the teacher has none
            if not any(name in found for name in names):
                return missing(kind, maps)
            every = (f"{kind}.{i}" for i in range(maps))
            return tuple(found.get(name, missing(name)) for name in every)

        logits, embedding = (
            found.get(name, missing(name)) for name in ("logits", "embedding")
        )
        layers = {
            name.removeprefix(LAYER): (x,)
            for name, x in found.items()
            if name.startswith(LAYER)
        }
        return ModelOutput(
            logits, embedding, maps_of("stages"), maps_of("preactivations"), layers
        )


def _fingerprint(manifest: Manifest) -> str:
    first = dataclasses.replace(
        manifest,
        views=manifest.views._replace(epochs=min(1, manifest.views.epochs)),
        epochs=manifest.epochs[:1],
        deviations={},
        classifier=None,
    )
    text = json.dumps(_json.strict(dataclasses.asdict(first)), sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
