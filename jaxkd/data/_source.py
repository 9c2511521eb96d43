"""The interface of sources of encoded images, and rows selected from a source."""

import abc
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._dataset import Augmentation
from jaxkd.data._decode import Encoded, failed_read
from jaxkd.data._labels import UNLABELED, check_labels


@runtime_checkable
class Images(Protocol):
    """Encoded images of one split, read by row number."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int | None]]:
        """Return encoded images, and their labels if they are stored beside them."""
        ...

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        ...


class Notes(NamedTuple):
    """Remarks about the files of some splits.

    Attributes:
        skipped: Number of ignored files of each suffix.
        repeated: Links that were left out because they lead to counted files.
        broken: Files that cannot be read, with the reason.
        doubts: Probable mistakes, one sentence each.
    """

    skipped: Mapping[str, int] = types.MappingProxyType({})
    repeated: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class Source(abc.ABC):
    """A dataset on disk. Nothing is decoded.

    Attributes:
        kind: Kind of the source, such as ``"folder"``.
        name: Name in messages and reports.
        location: Where it is.
        test_names: Splits to test on, best first.
        in_row_order: Whether slices take rows in order, because the rows are shuffled;
            otherwise each slice takes the same share of each class.
        labels_are_slow: Whether labels are read from the same records as images.
    """

    kind: ClassVar[str]
    test_names: ClassVar[tuple[str, ...]]
    in_row_order: ClassVar[bool]
    labels_are_slow: ClassVar[bool]
    name: str
    location: str

    @property
    def channels(self) -> int | None:
        """Number of channels that the source declares; None if it does not."""
        return None

    @abc.abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the names of all splits."""

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Return the number of rows of a split."""

    @abc.abstractmethod
    def class_names(self, splits: Sequence[str]) -> list[str]:
        """Return the names of the classes of some splits."""

    @abc.abstractmethod
    def labels(self, split: str, class_names: Sequence[str]) -> np.ndarray:
        """Return the class number of each row; UNLABELED where there is none."""

    @abc.abstractmethod
    def is_unlabeled(self, split: str, class_names: Sequence[str]) -> bool:
        """Return whether no row of a split has a label."""

    @abc.abstractmethod
    def images(self, split: str) -> Images:
        """Return the images of a split."""

    @abc.abstractmethod
    def notes(self, splits: Sequence[str]) -> Notes:
        """Return remarks about the files of some splits."""

    @abc.abstractmethod
    def missing(self, split: str) -> InvalidInputError:
        """Build the error for a dataset without the split ``train`` or ``test``."""

    @abc.abstractmethod
    def stamp(self, parts: dict[str, tuple[str, ...]]) -> Any:
        """Start the hash of a cache key from the contents of some splits.

        Args:
            parts: The splits used for ``train`` and ``test``.
        """

    @abc.abstractmethod
    def cache_name(self) -> str:
        """Return the readable beginning of the cache folder's name."""

    @abc.abstractmethod
    def fingerprint(self, contents: str) -> str:
        """Return the beginning of the dataset's fingerprint.

        Args:
            contents: Hash of the encoded images, labels and classes.
        """

    def for_streaming(
        self, images: dict[str, "Selected"], records: Path
    ) -> Mapping[str, Encoded]:
        """Return the images of both parts with fast random access.

        Args:
            images: The images.
            records: Folder for a copy, if one is needed.
        """
        del records
        return images

    @abc.abstractmethod
    def augmentation(self, image_shape: tuple[int, ...]) -> Augmentation:
        """Return the default augmentation."""


def splits_by_stamp(parts: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return each used split once, by the key of its contents in the cache key."""
    keys: dict[str, str] = {}
    for part, splits in parts.items():
        for split in splits:
            if split not in keys.values():
                keys[part if len(splits) == 1 else f"{part} {split}"] = split
    return keys


class Selected:
    """Chosen rows of the splits of a source, with their labels.

    Args:
        pieces: Images of a split and the chosen rows, in order.
        num_classes: Number of classes.
        labels: Label of each chosen row; None if they are stored beside the images.
    """

    def __init__(
        self,
        pieces: Sequence[tuple[Images, np.ndarray]],
        num_classes: int,
        labels: np.ndarray | None = None,
    ):
        self._pieces, self._num_classes = tuple(pieces), num_classes
        self._labels = labels
        self._ends = np.cumsum([len(rows) for _, rows in self._pieces])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
        """Return the encoded images of some rows, and their labels.

        Raises:
            InvalidInputError: If a label is missing or out of range.
        """
        chosen = np.asarray(rows, np.int64)
        found: list[tuple[bytes, int | None]] = [(b"", None)] * len(chosen)
        piece_of = np.searchsorted(self._ends, chosen, side="right")
        for number in np.unique(piece_of):
            images, own = self._pieces[number]
            places = np.flatnonzero(piece_of == number)
            inside = own[chosen[places] - (self._ends[number] - len(own))]
            examples = _read(images, inside.tolist())
            for place, example in zip(places.tolist(), examples, strict=True):
                found[place] = example
        if self._labels is None:
            stored = [UNLABELED if label is None else label for _, label in found]
        else:
            stored = self._labels[chosen].tolist()
        check_labels(
            np.array(stored), self._num_classes, lambda i: self.where(int(chosen[i]))
        )
        return [(x, label) for (x, _), label in zip(found, stored, strict=True)]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        images, own = self._pieces[number]
        return images.where(int(own[row - (self._ends[number] - len(own))]))


def _read(images: Images, rows: list[int]) -> list[tuple[bytes, int | None]]:
    try:
        return images.read(rows)
    except OSError as error:
        raise failed_read(images.where(rows[0]), error) from error
