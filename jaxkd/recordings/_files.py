"""Read the files of a recording: memory-mapped, and checked when first read."""

import os
import stat
from pathlib import Path

import numpy as np

from jaxkd._files import crc32
from jaxkd.distillers import Classifier
from jaxkd.recordings import _manifest
from jaxkd.recordings._codec import Part
from jaxkd.recordings._manifest import Manifest, damaged

_LARGEST_CLASSIFIER = 1 << 32  # bytes


def check_sizes(path: Path, manifest: Manifest) -> None:
    """Check that all files of the complete epochs are there and have their size.

    Raises:
        InvalidInputError: Naming the first file that is missing or has another size.
    """
    rows = manifest.views.rows_per_epoch
    sizes = {part.file: _manifest.file_size(part, rows) for part in manifest.parts()}
    for epoch in range(len(manifest.epochs)):
        folder = path / _manifest.folder_of(manifest.views, epoch)
        for name, size in sizes.items():
            try:
                status = os.stat(folder / name)
            except OSError as error:
                problem = f"it cannot be read ({error.strerror})"
                raise damaged(folder / name, problem) from None
            if not stat.S_ISREG(status.st_mode):
                raise damaged(folder / name, "it is not a regular file")
            if status.st_size != size:
                raise damaged(
                    folder / name,
                    f"it has {status.st_size:,} bytes in place of {size:,}",
                )


def open_part(path: Path, manifest: Manifest, epoch: int, part: Part) -> np.ndarray:
    """Map one file of an epoch into memory, after a check of its contents.

    Raises:
        InvalidInputError: If it is not what was written.
    """
    rows = manifest.views.rows_per_epoch
    file = path / _manifest.folder_of(manifest.views, epoch) / part.file
    header = _manifest.header(part, rows)
    if crc32(file) != manifest.epochs[epoch][part.file]:
        raise damaged(file, "it is not what was written")
    with file.open("rb") as opened:
        if opened.read(len(header)) != header:
            raise damaged(file, "it is not an array of the recorded shape and dtype")
    return np.memmap(
        file, part.dtype, mode="r", offset=len(header), shape=(rows, *part.shape)
    )


def read_classifier(path: Path, manifest: Manifest) -> Classifier | None:
    """Read the teacher's classifier, or return None if it was not recorded.

    Raises:
        InvalidInputError: If its file is not what was written, or does not fit the
            outputs.
    """
    if manifest.classifier is None:
        return None
    file = path / _manifest.CLASSIFIER
    try:
        if os.stat(file).st_size > _LARGEST_CLASSIFIER:
            raise damaged(file, "it is too large")
        intact = crc32(file) == manifest.classifier
    except OSError as error:
        raise damaged(file, f"it cannot be read ({error.strerror})") from None
    if not intact:
        raise damaged(file, "it is not what was written")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            classifier = Classifier(arrays["kernel"], arrays["bias"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise damaged(file, f"it cannot be read ({error})") from None
    kernel, bias = classifier
    wanted = [
        *manifest.outputs.get("embedding", ()),
        *manifest.outputs.get("logits", ()),
    ]
    fits = kernel.ndim == 2 and bias.shape == kernel.shape[1:]
    fits = fits and (len(wanted) != 2 or list(kernel.shape) == wanted)
    if not fits or {kernel.dtype.name, bias.dtype.name} != {"float32"}:
        raise damaged(file, f"it has a kernel of the shape {kernel.shape}")
    return classifier
