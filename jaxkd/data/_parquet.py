"""Datasets in parquet files of encoded images, the format of Hugging Face."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data import _cache
from jaxkd.data._assemble import digest_of
from jaxkd.data._dataset import Augmentation, default_augmentation
from jaxkd.data._files import check_regular
from jaxkd.data._parquet_labels import (
    FileLabels,
    class_names_of,
    doubts_about_files,
    numbers_in,
    read_labels,
)
from jaxkd.data._parquet_layout import doubts_about_joined, find_files
from jaxkd.data._source import Notes, Selected, Source, splits_by_stamp

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label")
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = "parquet 2"


class ParquetImages:
    """Encoded images of one split. Only sequential reads are fast.

    Args:
        paths: Files of the split, in order.

    Raises:
        InvalidInputError: If a file has no images.
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths = tuple(paths)
        more = f" and {len(paths) - 1} more files" if paths[1:] else ""
        self.name = f"{paths[0]}{more}"
        self._groups, counts = [], []
        for path in self._paths:
            file = _open(path)
            column = _column(path, file, _IMAGE_COLUMNS)
            for group in range(file.metadata.num_row_groups):
                self._groups.append((path, group, column))
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

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int | None]]:
        """Return the encoded images of some rows."""
        found = []
        for row in rows:
            group = int(np.searchsorted(self._ends, row, side="right"))
            start = int(self._ends[group - 1]) if group else 0
            image = self._group(group)[row - start].as_py()
            encoded = image.get("bytes") if isinstance(image, dict) else image
            if not isinstance(encoded, bytes):
                raise InvalidInputError(
                    f"{self.where(row)} must contain the bytes of an image file, got "
                    f"{_in_words(image)}",
                    argument="name",
                )
            found.append((encoded, None))
        return found

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return f"row {row} of {self.name}"

    def _read_group(self, group: int) -> Any:
        path, number, column = self._groups[group]
        with _reading(path):
            table = _open(path).read_row_group(number, columns=[column])
        return table[column]


class RecordFile:
    """Encoded images in an array_record file, which has fast random access.

    Args:
        path: The file.
        labels: Label of each image.
        images: The images that were copied; describes them in error messages.
    """

    def __init__(self, path: Path, labels: np.ndarray, images: Selected):
        self._path, self._labels, self._images = path, labels, images

    def __reduce__(self):
        return RecordFile, (self._path, self._labels, self._images)

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
        return self._images.where(row)


class ParquetSource(Source):
    """The columns ``image`` (bytes, or a struct that contains them) and ``label``.

    Args:
        root: The dataset's folder.
        files: Its parquet files, by split.
    """

    kind = "parquet"
    test_names = ("test", "validation", "val")
    in_row_order = False
    labels_are_slow = False

    def __init__(self, root: Path, files: dict[str, list[Path]]):
        self.name, self.location = root.resolve().name, str(root)
        self._files = files
        self._images = functools.cache(self._open_images)
        self._labels = functools.cache(self._read_labels)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, from the names of the files."""
        return tuple(self._files)

    def count(self, split: str) -> int:
        """Return the number of rows of a split."""
        rows = sum(_open(path).metadata.num_rows for path in self._files[split])
        if not rows:
            raise InvalidInputError(
                f"{self._files[split][0]} contains no rows", argument="name"
            )
        return rows

    def class_names(self, splits: Sequence[str]) -> list[str]:
        """Return the names of the classes of some splits."""
        return class_names_of([file for name in splits for file in self._labels(name)])

    def labels(self, split: str, class_names: Sequence[str]) -> np.ndarray:
        """Return the class number of each row."""
        return numbers_in(self._labels(split), class_names)

    def is_unlabeled(self, split: str, class_names: Sequence[str]) -> bool:
        """Return whether no row of a split has a label."""
        return bool(self.count(split)) and all(f.is_empty for f in self._labels(split))

    def notes(self, splits: Sequence[str]) -> Notes:
        """Return doubts about the files of a split, and about the lists of classes."""
        files = [file for split in splits for file in self._labels(split)]
        doubts = doubts_about_files(files)
        for split in splits:
            doubts += doubts_about_joined(split, self._files[split])
        return Notes(doubts=tuple(doubts))

    def missing(self, split: str) -> InvalidInputError:
        """Build the error for a split that is needed and does not exist."""
        return InvalidInputError(
            f"{self.location} must contain train-*.parquet and test-*.parquet (or "
            f"validation-*.parquet), but it contains none for {split}: its splits are "
            f"{', '.join(self._files)}; {self._remedy()}",
            argument="name",
        )

    def _remedy(self) -> str:
        """Return how to name or slice the existing splits."""
        first, *others = self._files
        train, test = f"'{first}[:90%]'", f"'{first}[90%:]'"
        if others:
            train = "train" if "train" in self._files else others[-1]
            test = next(name for name in self._files if name != train)
        return f"choose rows with --train-split {train} --test-split {test}"

    def stamp(self, parts: dict[str, tuple[str, ...]]) -> Any:
        """Start the hash of the cache key."""
        files = {
            key: self._files[split] for key, split in splits_by_stamp(parts).items()
        }
        return digest_of([_CACHE_FORMAT, *_stamps(files)])

    def cache_name(self) -> str:
        """Return the readable beginning of the cache folder's name."""
        return f"parquet-{self.name}"

    def fingerprint(self, contents: str) -> str:
        """Return the beginning of the dataset's fingerprint."""
        return f"parquet:{contents}"

    def for_streaming(
        self, images: dict[str, Selected], records: Path
    ) -> dict[str, RecordFile]:
        """Copy the images once to files that have fast random access."""
        return in_records(images, records)

    def augmentation(self, image_shape: tuple[int, ...]) -> Augmentation:
        """Return a crop without mirroring, which may change the class."""
        return Augmentation(default_augmentation("", image_shape).crop_padding)

    def images(self, split: str) -> ParquetImages:
        """Return the images of a split."""
        return self._images(split)

    def _open_images(self, split: str) -> ParquetImages:
        return ParquetImages(self._files[split])

    def _read_labels(self, split: str) -> tuple[FileLabels, ...]:
        found = []
        for path in self._files[split]:
            file = _open(path)
            names = file.schema_arrow.names
            column = next((name for name in _LABEL_COLUMNS if name in names), None)
            if column is None and split == "train":
                column = _column(path, file, _LABEL_COLUMNS)
            with _reading(path):
                found.append(read_labels(path, file, column))
        return tuple(found)


def find_parquet(root: Path) -> ParquetSource | None:
    """Return the dataset of parquet files in a folder, or None if there are none."""
    files = find_files(root)
    return ParquetSource(root, files) if files else None


def in_records(images: dict[str, Selected], target: Path) -> dict[str, RecordFile]:
    """Copy encoded images to array_record files, which have fast random access."""
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
        part: RecordFile(target / part, np.array(labels[part]), encoded)
        for part, encoded in images.items()
    }


def _in_words(image: Any) -> str:
    """Describe a value that is not the bytes of an image, with the remedy."""
    path = image.get("path") if isinstance(image, dict) else image
    if isinstance(path, str):
        return (
            f"only the path {path!r}; write the files' contents to the column, or give "
            "a folder train/CLASS/IMAGE"
        )
    kind = "nothing" if image is None or path is None else type(image).__name__
    return f"{kind}; leave the row out, or write encoded images (PNG, JPEG)"


def _stamps(files: dict[str, list[Path]]) -> list[str]:
    """Return strings that change if a file changes, without reading it."""
    stamps = []
    for part, paths in files.items():
        for path in paths:
            stamps.append(f"{part} {path.name} {_cache.stamp_of(path)}")
    return stamps


def _open(path: Path) -> Any:
    import pyarrow.parquet

    check_regular(path)
    with _reading(path):
        return pyarrow.parquet.ParquetFile(path)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise InvalidInputError if a file is damaged."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(
            f"cannot read {path}: {reason.rstrip('.')}; download or write it again",
            argument="name",
        ) from error


def _column(path: Path, file: Any, names: Sequence[str]) -> str:
    found = [name for name in names if name in file.schema_arrow.names]
    if not found:
        raise InvalidInputError(
            f"{path} must have a column {' or '.join(names)}, but its columns are "
            f"{', '.join(file.schema_arrow.names)}; rename one of them or add it",
            argument="name",
        )
    return found[0]
