"""The manifest of a recording: what it holds, and the files of every epoch."""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd import _json, _schema
from jaxkd._errors import InvalidInputError
from jaxkd._files import write_whole
from jaxkd._schema import (
    CROP_SCALE,
    FLAG,
    FRACTION,
    IMAGE_SHAPE,
    INTEGER,
    NOT_NEGATIVE,
    NUMBER,
    OBJECT,
    POSITIVE,
    RANDAUGMENT,
    SPEED,
    TEXT,
    VALUE_RANGE,
    Entry,
    Kind,
    is_integer,
    is_text,
    list_of,
    one_of,
    optional,
)
from jaxkd._text import printable
from jaxkd.data import Augmentation
from jaxkd.recordings import _views
from jaxkd.recordings._codec import DTYPES, Codec, Part
from jaxkd.recordings._views import Views

FILE = "manifest.json"
CLASSIFIER = "classifier.npz"
ROWS = Part("rows.npy", np.dtype("<i4"), ())
FORMAT = 1

LAYER = "path="
OUTPUT = re.compile(
    r"logits|embedding|(stages|preactivations)\.(0|[1-9]\d?)"
    rf"|{LAYER}[\w-][\w.\[\]-]{{0,99}}",
    re.ASCII,
)
"""Names of outputs. That of a layer begins with ``path=``."""

_MOST_AXES, _LONGEST_AXIS = 4, 2**24


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
        ordered: Whether the row numbers of the augmented images are stored too.
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
    ordered: bool = False
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

    def parts(self) -> list[Part]:
        """Return the files of an epoch."""
        codecs = self.codecs().values()
        parts = [part for codec in codecs for part in codec.parts().values()]
        return [*parts, ROWS] if self.ordered else parts

    @property
    def wanted_epochs(self) -> int:
        """Number of epochs in a complete recording: 1 for clean images."""
        return max(1, self.views.epochs)

    @property
    def complete(self) -> bool:
        """Whether all epochs are recorded."""
        return len(self.epochs) >= self.wanted_epochs


def folder_of(views: Views, epoch: int) -> str:
    """Return the name of an epoch's folder. Epochs are counted from 0."""
    return "clean" if views.clean else f"epoch-{epoch + 1:05d}"


def header(part: Part, rows: int) -> bytes:
    """Return the header of an ``.npy`` file with a given number of rows."""
    shape = (rows, *part.shape)
    entries = f"'descr': {part.dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}"
    text = f"{{{entries}}}"
    start = np.lib.format.magic(1, 0)
    padding = -(len(start) + 2 + len(text) + 1) % np.lib.format.ARRAY_ALIGN
    content = text.encode() + b" " * padding + b"\n"
    return start + len(content).to_bytes(2, "little") + content


def file_size(part: Part, rows: int) -> int:
    """Return the size of a part's file in bytes."""
    row = math.prod(part.shape) * part.dtype.itemsize
    return len(header(part, rows)) + rows * row


def write(path: Path, manifest: Manifest) -> None:
    """Write the manifest atomically."""
    content = {
        "format": FORMAT,
        **dataclasses.asdict(manifest),
        "views": _views.to_json(manifest.views),
    }
    text = _json.dumps(content, indent=2) + "\n"
    write_whole(path / FILE, text.encode())


def read(path: Path) -> Manifest:
    """Read and check the manifest of a recording.

    Raises:
        InvalidInputError: If there is none, or an entry cannot be right.
    """
    file = path / FILE
    try:
        content = _json.parse(_json.read_text(file, damaged), file, damaged)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInputError(
            f"{path} contains no recording. Check the path, or make a recording with "
            "`jaxkd record`.",
            argument="recorded",
        ) from None
    _schema.check(file, content, _ENTRIES, damaged)
    for name in content["views"]["augmentation"] or ():
        if name not in Augmentation._fields:
            raise damaged(file, f"views.augmentation has the unknown setting {name!r}")
    manifest = Manifest(
        views=_views.from_json(content["views"]),
        class_names=tuple(content["class_names"]),
        teacher=content["teacher"],
        load_options=_load_options(content["load_options"]),
        dtype=content["dtype"],
        top_k=content["top_k"],
        available=tuple(content["available"]),
        ordered=content["ordered"],
        outputs={name: tuple(shape) for name, shape in content["outputs"].items()},
        deviations={
            name: {key: float(value) for key, value in found.items()}
            for name, found in content["deviations"].items()
        },
        epochs=tuple(content["epochs"]),
        classifier=content["classifier"],
    )
    problem = _contradiction(manifest)
    if problem is not None:
        raise damaged(file, problem)
    return manifest


def damaged(path: Path | str, problem: str) -> InvalidInputError:
    """Build the error for a file of a recording that cannot be used."""
    return InvalidInputError(
        printable(f"{path} is damaged: {problem}. ")
        + "Restore the file, or record again.",
        argument="recorded",
    )


def _load_options(content: dict[str, Any]) -> dict[str, Any]:
    limits = content.get("value_range")
    return content if limits is None else content | {"value_range": tuple(limits)}


def _contradiction(manifest: Manifest) -> str | None:
    """Describe entries that do not fit each other, or return None if all do."""
    views, outputs = manifest.views, manifest.outputs
    clean = views.data_seed is None, views.augmentation is None
    if any(x != views.clean for x in clean):
        return (
            "views must have a data_seed and an augmentation if epochs is positive, "
            "and neither if it is 0"
        )
    if views.batch_size > views.rows:
        return f"views.batch_size is {views.batch_size}, more than {views.rows} rows"
    if manifest.epochs and not outputs:
        return "it has complete epochs, but no outputs"
    if len(manifest.epochs) > manifest.wanted_epochs:
        return f"it has {len(manifest.epochs)} epochs of {manifest.wanted_epochs}"
    logits = outputs.get("logits")
    if logits is not None and (len(logits) != 1 or logits[0] < _classes(manifest)):
        return f"its logits have the shape {list(logits)} for {_classes(manifest)} " + (
            "classes"
        )
    top_k = manifest.top_k
    if top_k is not None and logits is not None and top_k >= logits[0]:
        return f"top_k is {top_k} for {logits[0]} logits"
    files = sorted(part.file for part in manifest.parts())
    for number, epoch in enumerate(manifest.epochs, start=1):
        if sorted(epoch) != files:
            found = _schema.shown(sorted(epoch))
            return f"epoch {number} has the files {found} in place of {files}"
    return None


def _classes(manifest: Manifest) -> int:
    return len(manifest.class_names)


def _object_of(key: Callable[[Any], bool], kind: Kind, wanted: str) -> Kind:
    def accepts(value: Any) -> bool:
        return isinstance(value, dict) and all(
            key(name) and kind.accepts(item) for name, item in value.items()
        )

    return Kind(accepts, wanted)


def _is_output(name: Any) -> bool:
    return is_text(name) and bool(OUTPUT.fullmatch(name))


_CHECKSUM = Kind(lambda x: is_integer(x, 0, 2**32 - 1), "a checksum of 32 bits")
_AXES = list_of(
    Kind(lambda x: is_integer(x, 1, _LONGEST_AXIS), ""), "", range(1, _MOST_AXES)
)
_NAMES = "logits, embedding, stages.N, preactivations.N and path=LAYER"
_ENTRIES = (
    Entry("format", Kind(lambda x: x == FORMAT, f"{FORMAT}"), True),
    Entry("views", OBJECT, True),
    Entry("views.dataset", TEXT, True),
    Entry("views.fingerprint", TEXT, True),
    Entry("views.rows", POSITIVE, True),
    Entry("views.image_shape", IMAGE_SHAPE, True),
    Entry("views.epochs", NOT_NEGATIVE, True),
    Entry("views.batch_size", POSITIVE, True),
    Entry("views.data_seed", optional(INTEGER), True),
    Entry("views.augmentation", optional(OBJECT), True),
    Entry("views.augmentation.crop_padding", NOT_NEGATIVE, True),
    Entry("views.augmentation.flip", FLAG, True),
    Entry("views.augmentation.randaugment", optional(RANDAUGMENT), True),
    Entry("views.augmentation.mixup", SPEED, True),
    Entry("views.augmentation.cutmix", SPEED, True),
    Entry("views.augmentation.random_resized_crop", optional(CROP_SCALE)),
    Entry(
        "class_names",
        list_of(TEXT, "a list of strings, at least one", range(1, 2**24)),
        True,
    ),
    Entry("teacher", OBJECT, True),
    Entry("load_options", OBJECT, True),
    Entry("load_options.source", optional(TEXT)),
    Entry("load_options.image_size", optional(POSITIVE)),
    Entry("load_options.test_resize", optional(POSITIVE)),
    Entry("load_options.subset", optional(POSITIVE)),
    Entry("load_options.validation", optional(FRACTION)),
    Entry("load_options.unlabeled", optional(TEXT)),
    Entry("load_options.train_split", optional(TEXT)),
    Entry("load_options.test_split", optional(TEXT)),
    Entry("load_options.background", optional(TEXT)),
    Entry("load_options.value_range", optional(VALUE_RANGE)),
    Entry("dtype", one_of(DTYPES), True),
    Entry("top_k", optional(POSITIVE), True),
    Entry(
        "available",
        list_of(Kind(_is_output, ""), f"a list of outputs: {_NAMES}"),
        True,
    ),
    Entry("ordered", FLAG, True),
    Entry(
        "outputs",
        _object_of(_is_output, _AXES, f"shapes of outputs by name: {_NAMES}"),
        True,
    ),
    Entry(
        "deviations",
        _object_of(
            _is_output,
            _object_of(is_text, NUMBER, ""),
            "numbers by the names of outputs",
        ),
        True,
    ),
    Entry(
        "epochs",
        list_of(
            _object_of(is_text, _CHECKSUM, ""),
            "a list with the checksums of the files of each epoch",
        ),
        True,
    ),
    Entry("classifier", optional(_CHECKSUM), True),
)
