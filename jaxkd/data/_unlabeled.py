"""Images without labels that join a training set."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd._files import expand_home
from jaxkd.data import _cache
from jaxkd.data._assemble import Loading, digest_of, write_index
from jaxkd.data._dataset import ImageDataset, Split, fingerprint_of
from jaxkd.data._decode import DecodedRows, write_decoded
from jaxkd.data._files import find_images, identity
from jaxkd.data._folder import ImageFiles, stamps_of
from jaxkd.data._labels import UNLABELED
from jaxkd.data._normalize import statistics_of_histogram
from jaxkd.data._picture import WHITE, checked_color
from jaxkd.data._range import ranges_of_histogram
from jaxkd.data._stream import Streamed

_PART = "unlabeled"
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = "unlabeled 1"


def with_unlabeled(
    dataset: ImageDataset,
    images: str | os.PathLike | np.ndarray | Streamed,
    *,
    cache_dir: str | os.PathLike | None = None,
    background: str = "white",
) -> ImageDataset:
    """Add images without labels to a training set, for methods that need no label.

    They are the last rows, with the label -1, which is allowed nowhere else. The test
    split does not change. ``Batch.labeled`` tells a method which rows have a label;
    cross-entropy is zero for the others.

    Args:
        dataset: The dataset. Its own rows keep their order.
        images: Images of the dataset's shape and dtype, or a folder. All images in a
            folder and the folders inside are used, whatever these are called. They are
            scaled until they cover the dataset's images, with their aspect ratio
            unchanged, and cropped at the center. They are streamed if the dataset is,
            and are otherwise decoded once into the cache.
        cache_dir: Folder for decoded images. If None, JAXKD_CACHE_DIR, else the user's
            cache folder.
        background: Color behind transparent pixels of a folder's images.

    Returns:
        A dataset whose fingerprint identifies the added images, too, and whose
        ``num_unlabeled`` counts them.

    Raises:
        InvalidTypeError: If the images are of another type.
        InvalidInputError: If the images do not fit the dataset, there are none, or one
            cannot be read.

    Example:
        >>> import numpy as np
        >>> from jaxkd import data
        >>> digits = data.load("digits")
        >>> more = data.with_unlabeled(digits, np.zeros((3, 8, 8, 1), np.uint8))
        >>> more.train.labels[-3:].tolist(), more.num_unlabeled
        ([-1, -1, -1], 3)
    """
    if dataset.num_unlabeled:
        raise InvalidInputError(
            f"{dataset.name} has {dataset.num_unlabeled:,} unlabeled images already; "
            "add all of them at once",
            argument="dataset",
        )
    loading = Loading(cache_dir, background=checked_color(background))
    images, contents = _read(images, dataset, loading)
    labels = np.full(len(images), UNLABELED, np.int32)
    return dataclasses.replace(
        dataset,
        train=Split(
            _joined(dataset.train.images, images),
            np.concatenate([dataset.train.labels, labels]),
        ),
        fingerprint=f"{dataset.fingerprint}, {len(images)} unlabeled images {contents}",
        num_unlabeled=len(images),
    )


def _read(
    images: Any, dataset: ImageDataset, loading: Loading
) -> tuple[np.ndarray | Streamed, str]:
    """Return the images and a text that identifies them."""
    if isinstance(images, str | os.PathLike):
        return _read_folder(images, dataset, loading)
    if not isinstance(images, np.ndarray | Streamed):
        raise InvalidTypeError(
            "images must be a folder, a NumPy array or streamed images, got "
            f"{type(images).__name__}",
            argument="images",
        )
    _check_fits(images, dataset)
    return images, fingerprint_of(images)


def _check_fits(images: np.ndarray | Streamed, dataset: ImageDataset) -> None:
    wanted = dataset.train.images
    if images.ndim != 4 or not len(images) or images.shape[1:] != wanted.shape[1:]:
        raise InvalidInputError(
            f"images must be of the shape of those of {dataset.name}, "
            f"[rows, {', '.join(map(str, wanted.shape[1:]))}], got {images.shape}",
            argument="images",
        )
    if images.dtype != wanted.dtype:
        raise InvalidInputError(
            f"images must be {wanted.dtype}, as those of {dataset.name}, got "
            f"{images.dtype}; uint8 images have the values 0 to 255, others 0 to 1",
            argument="images",
        )


def _joined(
    ours: np.ndarray | Streamed, added: np.ndarray | Streamed
) -> np.ndarray | Streamed:
    """Append images; the result is streamed if one of them is."""
    if isinstance(ours, np.ndarray) and isinstance(added, np.ndarray):
        return np.concatenate([ours, added])
    parts = [x if isinstance(x, Streamed) else Streamed(x) for x in (ours, added)]
    known: dict[str, Any] = {}
    first, second = (part.histogram for part in parts)
    if first is not None and second is not None:
        known = facts_of(first + second)
    return Streamed(_Joined(parts), workers=max(x.workers for x in parts), **known)


def facts_of(histogram: np.ndarray) -> dict[str, Any]:
    """Return what :class:`Streamed` may know about images with this histogram."""
    return {
        "statistics": statistics_of_histogram(histogram, int(histogram[0].sum())),
        "ranges": ranges_of_histogram(histogram),
        "histogram": histogram,
    }


class _Joined:
    """A source of the images of several streams, one after the other."""

    def __init__(self, parts: Sequence[Streamed]):
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        _, height, width, channels = parts[0].shape
        self.shape = (int(self._ends[-1]), height, width, channels)

    def read(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, None]:
        """Return the images of some rows."""
        rows = np.asarray(rows, np.int64)
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        part_of = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(part_of):
            part, places = self._parts[number], part_of == number
            first = self._ends[number] - len(part)
            images[places] = part[rows[places] - first]
        return images, None


class _Files:
    """Image files with the label of those that have none."""

    def __init__(self, files: ImageFiles):
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows."""
        return [(encoded, UNLABELED) for encoded, _ in self._files.read(rows)]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return self._files.where(row)


def _read_folder(
    path: str | os.PathLike, dataset: ImageDataset, loading: Loading
) -> tuple[np.ndarray | Streamed, str]:
    """Return the images of a folder like those of a dataset, and their hash."""
    root, ours = expand_home(path, "unlabeled"), dataset.train.images
    try:
        images, contents = _decoded(root, dataset, loading)
    except InvalidInputError as error:
        # The errors of other datasets are about their name.
        if error.argument != "name":
            raise
        raise InvalidInputError(str(error), argument="unlabeled") from error
    if loading.background != WHITE:
        contents += f", background {loading.background}"
    if isinstance(images, np.ndarray) and ours.dtype != np.uint8:
        images = (images / np.float32(255)).astype(ours.dtype)
    return images, contents


def _decoded(
    root: Path, dataset: ImageDataset, loading: Loading
) -> tuple[np.ndarray | Streamed, str]:
    """Return the decoded or streamed images of a folder, and their hash."""
    files, ours = _find(root), dataset.train.images
    height, width, channels = dataset.image_shape
    digest = digest_of([_CACHE_FORMAT, *stamps_of({_PART: files})])
    key, size = f"unlabeled-{root.resolve().name}", f"{height}x{width}x{channels}"
    target = loading.folder(key, digest, size)
    rows = DecodedRows(_Files(files), channels, (height, width), loading.background)
    parts, metadata = {_PART: rows}, {"name": root.name, "class_names": []}
    if not isinstance(ours, Streamed):
        if not target.is_dir():
            write_decoded(parts, metadata, target)
        stored, arrays = _cache.read_folder(target)
        return arrays[f"{_PART}-images"], stored["contents"]
    index = target.with_name(f"{target.name}-index")
    if not index.is_dir():
        write_index(parts, metadata, index, ours.workers)
    stored, arrays = _cache.read_folder(index)
    facts = facts_of(np.array(arrays[f"{_PART}-histogram"]))
    return Streamed(rows, workers=ours.workers, **facts), stored["contents"]


def _find(root: Path) -> ImageFiles:
    """Find the images in a folder and the folders inside, each once."""
    if not root.is_dir():
        raise InvalidInputError(
            f"there is no folder {root} of unlabeled images", argument="unlabeled"
        )
    found = find_images(root, ())
    if found.broken:
        raise InvalidInputError(
            f"{len(found.broken):,} unlabeled images cannot be read, such as "
            f"{found.broken[0]}; repair or remove them",
            argument="unlabeled",
        )
    names = found.names
    if found.linked:
        names = list({identity(root / name): name for name in reversed(names)}.values())
        names.sort()
    if not names:
        raise InvalidInputError(
            f"the folder {root} contains no images; fill it, or give another",
            argument="unlabeled",
        )
    return ImageFiles(root, names)
