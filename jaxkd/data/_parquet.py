"""Datasets in parquet files of encoded images, the format of Hugging Face."""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data import _cache
from jaxkd.data._assemble import Contents, Loading, assemble, digest_of
from jaxkd.data._dataset import Augmentation, ImageDataset, default_augmentation
from jaxkd.data._decode import DecodedRows, unreadable
from jaxkd.data._picture import GRAY_MODES

_PARTS = {"train": ("train",), "test": ("test", "validation", "val")}
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label")
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = "parquet 2"


class ParquetImages:
    """Encoded images and labels of one split. Only sequential reads are fast.

    Args:
        paths: Files of the split, in order.

    Raises:
        InvalidInputError: If a file has no images or labels.
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths = tuple(paths)
        more = f" and {len(paths) - 1} more files" if paths[1:] else ""
        self.name = f"{paths[0]}{more}"
        self._groups, counts = [], []
        for path in self._paths:
            file = _open(path)
            self._image_column = _column(path, file, _IMAGE_COLUMNS)
            self._label_column = _column(path, file, _LABEL_COLUMNS)
            for group in range(file.metadata.num_row_groups):
                self._groups.append((path, group))
                counts.append(file.metadata.row_group(group).num_rows)
        self._ends = np.cumsum(counts)
        if not len(self):
            raise InvalidInputError(
                f"{self._paths[0]} contains no rows", argument="name"
            )
        self._group = functools.lru_cache(maxsize=1)(self._read_group)

    def __reduce__(self):
        return ParquetImages, (self._paths,)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows, and their labels."""
        found = []
        for row in rows:
            group = int(np.searchsorted(self._ends, row, side="right"))
            start = int(self._ends[group - 1]) if group else 0
            images, labels = self._group(group)
            image, label = images[row - start].as_py(), labels[row - start].as_py()
            encoded = image.get("bytes") if isinstance(image, dict) else image
            if not isinstance(encoded, bytes) or not isinstance(label, int):
                raise InvalidInputError(
                    f"{self.where(row)} must contain the bytes of an image and an "
                    f"integer label, got {type(encoded).__name__} and {label!r}",
                    argument="name",
                )
            found.append((encoded, label))
        return found

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return f"row {row} of {self.name}"

    def class_names(self) -> list[str]:
        """Return the names in the files' metadata; else the numbers up to the largest.

        The largest number is that of this split's labels.
        """
        metadata = _open(self._paths[0]).schema_arrow.metadata or {}
        try:
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
            return list(map(str, features[self._label_column]["names"]))
        except (KeyError, TypeError, ValueError):
            columns = [self._label_column]
            largest = max(
                max(_open(path).read(columns=columns)[0].to_pylist())
                for path in self._paths
            )
            return list(map(str, range(largest + 1)))

    def _read_group(self, group: int) -> tuple[Any, Any]:
        path, number = self._groups[group]
        columns = [self._image_column, self._label_column]
        table = _open(path).read_row_group(number, columns=columns)
        return table[self._image_column], table[self._label_column]


class RecordFile:
    """Encoded images in an array_record file, which has fast random access.

    Args:
        path: The file.
        labels: Label of each image.
        name: Name of the split in error messages.
    """

    def __init__(self, path: Path, labels: np.ndarray, name: str):
        self._path, self._labels, self._name = path, labels, name

    def __reduce__(self):
        return RecordFile, (self._path, self._labels, self._name)

    @functools.cached_property
    def _reader(self) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        return ArrayRecordReader(str(self._path))

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows, and their labels."""
        images = self._reader.read(list(rows))
        return [(x, int(self._labels[r])) for x, r in zip(images, rows, strict=True)]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return f"row {row} of {self._name}"


def find_parquet(root: Path) -> dict[str, list[Path]] | None:
    """Find the parquet files of both splits in a folder or its subfolder ``data``.

    Returns:
        The files of ``train`` and ``test``, or None if there are no parquet files.

    Raises:
        InvalidInputError: If a split is missing.
    """
    for folder in (root, root / "data"):
        if not any(folder.glob("*.parquet")):
            continue
        found = {}
        for part, names in _PARTS.items():
            globbed = (sorted(folder.glob(f"{name}*.parquet")) for name in names)
            found[part] = next(filter(None, globbed), [])
            if not found[part]:
                raise InvalidInputError(
                    f"{folder} must contain train-*.parquet and test-*.parquet (or "
                    f"validation-*.parquet), but it contains none for {part}",
                    argument="name",
                )
        return found
    return None


def load_parquet(
    root: Path, files: dict[str, list[Path]], loading: Loading
) -> ImageDataset:
    """Load the columns ``image`` (bytes, or a struct that contains them) and ``label``.

    Raises:
        InvalidInputError: If a file cannot be used.
    """
    stamps = [_CACHE_FORMAT]
    for part, paths in files.items():
        for path in paths:
            stamps.append(f"{part} {path.name} {_cache.stamp_of(path)}")
    digest = digest_of(stamps)
    name = root.resolve().name
    records = loading._replace(image_size=None).folder(f"parquet-{name}", digest.copy())
    records = records.with_name(f"{records.name}-records")

    def contents() -> Contents:
        images = {part: ParquetImages(paths) for part, paths in files.items()}
        class_names = images["train"].class_names()
        source = _in_records(images, records) if loading.stream else images
        channels = 1 if all(map(_first_is_gray, images.values())) else 3
        parts = {
            part: DecodedRows(encoded, channels, loading.size, loading.background)
            for part, encoded in source.items()
        }
        return Contents(parts, class_names)

    folder = loading.folder(f"parquet-{name}", digest)
    train, test, metadata = assemble(contents, {"name": name}, folder, loading)
    padding = default_augmentation("", train.images.shape[1:]).crop_padding
    return ImageDataset(
        name=name,
        train=train,
        test=test,
        num_classes=len(metadata["class_names"]),
        class_names=tuple(metadata["class_names"]),
        augmentation=Augmentation(padding),
        fingerprint=f"parquet:{metadata['contents']}{loading.fingerprint}",
    )


def _in_records(
    images: dict[str, ParquetImages], target: Path
) -> dict[str, RecordFile]:
    """Copy the encoded images to array_record files, which have fast random access."""
    if not target.is_dir():
        entries = {}
        with _cache.new_folder(target) as folder:
            for part, encoded in images.items():
                labels = []
                with _cache.record_writer(folder / part) as writer:
                    for row in range(len(encoded)):
                        ((image, label),) = encoded.read([row])
                        writer.write(image)
                        labels.append(label)
                own = np.array(labels, np.int32)
                entries[part] = _cache.write_array(
                    folder / f"{part}.npy", own.shape, own.dtype, [own]
                )
            _cache.write_metadata(folder, {"files": entries})
    _, labels = _cache.read_folder(target)
    return {
        part: RecordFile(target / part, np.array(labels[part]), encoded.name)
        for part, encoded in images.items()
    }


def _first_is_gray(images: ParquetImages) -> bool:
    """Return whether the first image is gray, according to its header."""
    from PIL import Image

    ((encoded, _),) = images.read([0])
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.mode in GRAY_MODES
    except Exception as error:  # Pillow raises many types for broken images.
        raise unreadable(images.where(0), error) from error


def _open(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(
            f"cannot read {path}: {reason}", argument="name"
        ) from error


def _column(path: Path, file: Any, names: Sequence[str]) -> str:
    found = [name for name in names if name in file.schema_arrow.names]
    if not found:
        raise InvalidInputError(
            f"{path} must have a column {' or '.join(names)}, but its columns are "
            f"{', '.join(file.schema_arrow.names)}",
            argument="name",
        )
    return found[0]
