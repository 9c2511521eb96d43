"""The manifest of a recording: what it holds, and the files of every epoch."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole
from jaxkd.recordings import _views
from jaxkd.recordings._codec import Codec, Part
from jaxkd.recordings._views import Views

FILE = "manifest.json"
CLASSIFIER = "classifier.npz"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``, which alone decides what is recorded.

    Attributes:
        views: The images that were shown; ``views.epochs`` is the number asked for.
        class_names: One name per class.
        teacher: What is known about the teacher.
        load_options: How the dataset was loaded.
        dtype: ``"float32"`` or ``"float16"``.
        top_k: Number of logits that are stored, or None for all.
        available: The outputs that the teacher has, if known.
        outputs: Shapes of a row by the outputs' names; empty before the first epoch.
        deviations: Largest deviations by the outputs' names.
        epochs: For each complete epoch, the checksums of its files.
        classifier: Checksum of the classifier's file, or None if there is none.
    """

    views: Views
    class_names: tuple[str, ...]
    teacher: dict[str, Any]
    load_options: dict[str, Any]
    dtype: str = "float32"
    top_k: int | None = None
    available: tuple[str, ...] = ()
    outputs: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    deviations: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    epochs: tuple[dict[str, int], ...] = ()
    classifier: int | None = None

    def codecs(self) -> dict[str, Codec]:
        """Return how each output is stored."""
        return {
            name: Codec(
                name, shape, self.dtype, self.top_k if name == "logits" else None
            )
            for name, shape in self.outputs.items()
        }

    @property
    def wanted_epochs(self) -> int:
        """Number of epochs in a complete recording: 1 for clean images."""
        return max(1, self.views.epochs)


def folder_of(views: Views, epoch: int) -> str:
    """Return the name of an epoch's folder. Epochs are counted from 0."""
    return "clean" if views.clean else f"epoch-{epoch + 1:05d}"


def header(part: Part, rows: int) -> bytes:
    """Return the header of an ``.npy`` file with a given number of rows."""
    shape = (rows, *part.shape)
    text = (
        f"{{'descr': {part.dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}}}"
    )
    start = np.lib.format.magic(1, 0)
    padding = -(len(start) + 2 + len(text) + 1) % np.lib.format.ARRAY_ALIGN
    content = text.encode() + b" " * padding + b"\n"
    return start + len(content).to_bytes(2, "little") + content


def file_size(part: Part, rows: int) -> int:
    """Return the size of a part's file in bytes."""
    row = int(np.prod(part.shape, dtype=np.int64)) * part.dtype.itemsize
    return len(header(part, rows)) + rows * row


def write(path: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    content = dataclasses.asdict(manifest) | {
        "format": FORMAT,
        "views": _views.to_json(manifest.views),
    }
    text = _json.dumps(content, indent=2) + "\n"
    write_whole(path / FILE, text.encode())


def read(path: Path) -> Manifest:
    """Read and check the manifest of a recording."""
    try:
        content = json.loads((path / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInputError(
            f"{path} contains no recording. Make one with `jaxkd record --teacher RUN "
            f"--out {path}`.",
            argument="recorded",
        ) from None
    content.pop("format")
    return Manifest(
        **content
        | {
            "views": _views.from_json(content["views"]),
            "class_names": tuple(content["class_names"]),
            "available": tuple(content["available"]),
            "outputs": {k: tuple(v) for k, v in content["outputs"].items()},
            "epochs": tuple(content["epochs"]),
        }
    )
