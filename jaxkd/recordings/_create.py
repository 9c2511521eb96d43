"""Create a recording, or open one to continue it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd.recordings import _manifest
from jaxkd.recordings._manifest import Manifest
from jaxkd.recordings._settings import check_settings
from jaxkd.recordings._views import Views
from jaxkd.recordings._writer import Writer, lock_of

# What a process that was killed while it wrote the first manifest has left.
_LEFT = f".jaxkd-tmp-{_manifest.FILE}-"


def create(
    path: str | os.PathLike,
    views: Views,
    *,
    class_names: Sequence[str],
    teacher: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    top_k: int | None = None,
    load_options: Mapping[str, Any] | None = None,
    available: Sequence[str] = (),
    resume: bool = True,
) -> Writer:
    """Create a recording, or continue one that is not complete.

    Close the writer, or use it as a context manager: it holds the recording's lock.

    Args:
        path: Folder of the recording. It must be empty or absent, or hold a recording
            with the same settings, which is continued. A recording of more epochs than
            before continues the earlier one.
        views: The images that the teacher sees.
        class_names: One name per class, such as ``dataset.class_names``.
        teacher: What to remember about the teacher, in values of JSON.
        dtype: ``"float32"``, or ``"float16"`` for half the size. The manifest states
            the largest deviation.
        top_k: Store only the largest ``k`` logits of a row, and the mass of all others
            at the temperatures 1, 2, 4, 8 and infinity
            (:class:`jaxkd.losses.TopLogits`). None stores all logits.
        load_options: How the dataset was loaded, to load it again without the teacher.
        available: Names of all outputs that the teacher has, if known. A method that
            reads one that is not recorded then gets a more precise error.
        resume: Whether an existing recording may be continued.

    Returns:
        A writer that begins at the first epoch that is not complete.

    Raises:
        InvalidInputError: If a setting cannot be used or differs from that of the
            recording in the folder, the folder contains anything else, or another
            process writes to it.
        OSError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxkd import data, recordings
        >>> dataset = data.load("digits")
        >>> views = recordings.Views.of(dataset, epochs=0, batch_size=64, data_seed=0)
        >>> names, folder = dataset.class_names, tempfile.mkdtemp()
        >>> with recordings.create(folder, views, class_names=names) as writer:
        ...     writer.begin_epoch()
        ...     writer.append({"logits": np.ones((views.rows, 10), np.float32)})
        ...     writer.end_epoch()
        ...     writer.finish()
        >>> recordings.open(folder).outputs
        ('logits',)
    """
    manifest = Manifest(
        views=views,
        class_names=tuple(class_names),
        teacher=dict(teacher or {}),
        load_options=dict(load_options or {}),
        dtype=dtype if isinstance(dtype, str) else np.dtype(dtype).name,
        top_k=top_k,
        available=tuple(available),
    )
    check_settings(manifest)
    if top_k is not None:
        manifest = dataclasses.replace(manifest, top_k=int(top_k))
    path = expand_home(path, "path")
    _check_folder(path, resume=resume)
    return Writer(path, manifest)


def _check_folder(path: Path, *, resume: bool) -> None:
    """Refuse a folder that holds anything but a recording to continue."""
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise InvalidInputError(
            f"{path} is not a folder. Choose another --out.", argument="path"
        )
    if os.path.lexists(path / _manifest.FILE):
        if not resume:
            raise InvalidInputError(
                f"{path} already contains a recording. Choose another --out.",
                argument="path",
            )
        return
    lock = lock_of(path)
    others = [
        entry
        for entry in path.iterdir()
        if entry != lock.file and not entry.name.startswith(_LEFT)
    ]
    if others or (os.path.lexists(lock.file) and not lock.is_ours()):
        raise InvalidInputError(
            f"{path} already exists and is not a recording. Choose another --out.",
            argument="path",
        )
