"""Describe the rows of a dataset before any image is decoded."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd._text import count
from jaxkd.data._decode import unreadable
from jaxkd.data._labels import check_labels, doubts_about_counts, doubts_about_names
from jaxkd.data._picture import GRAY_MODES, opened, upright_size
from jaxkd.data._plan import Plan
from jaxkd.data._slices import Specification, in_even_shares
from jaxkd.data._source import Notes, Selected, Source

_ROWS_AT_ONCE = 64


class Headers(NamedTuple):
    """Modes and sizes of encoded images, read from their headers.

    Attributes:
        modes: Number of images of each Pillow mode, such as ``"RGB"``.
        sizes: Number of images of each size, height and width.
        broken: Images whose header cannot be read, with the reason.
    """

    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    broken: tuple[str, ...]


class Part(NamedTuple):
    """The rows that a dataset is trained or tested on.

    Attributes:
        specification: Where they come from, such as ``"train[:90%]"``.
        rows: Number of rows.
        labels: Class number of each row; None if they have not been read.
        images: Encoded images; None for images in memory.
    """

    specification: str
    rows: int
    labels: np.ndarray | None
    images: Selected | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """A description of a dataset, made without decoding its images.

    Attributes:
        name: Name in messages and reports.
        kind: ``"folder"``, ``"parquet"``, ``"tfds"`` or ``"arrays"``.
        location: Where the dataset is.
        splits: Number of rows of each split that exists; empty if not counted.
        class_names: One name per class.
        train: Rows to train on.
        test: Rows to test on.
        skipped: Number of ignored files of each suffix.
        repeated: Links that were left out because they lead to counted files.
        broken_files: Files that cannot be opened, with the reason.
        doubts: Probable mistakes, one sentence each.
        channels: Number of channels that the source declares; None if it does not.
    """

    name: str
    kind: str
    location: str
    splits: dict[str, int]
    class_names: tuple[str, ...]
    train: Part
    test: Part
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)
    repeated: tuple[str, ...] = ()
    broken_files: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    channels: int | None = None

    @functools.cached_property
    def headers(self) -> Headers | None:
        """Modes and sizes of all images; None for images in memory.

        Every image is opened once, when this is first read.
        """
        modes, sizes, broken = Counter(), Counter(), []
        for part in (self.train, self.test):
            if part.images is None:
                return None
            for header in _headers(part.images):
                if isinstance(header, str):
                    broken.append(header)
                else:
                    mode, size = header
                    modes[mode] += 1
                    sizes[size] += 1
        return Headers(modes, sizes, tuple(broken))

    @property
    def broken(self) -> tuple[str, ...]:
        """Files and images that cannot be opened, with the reason."""
        headers = self.headers
        return self.broken_files + (() if headers is None else headers.broken)

    def decoded_channels(self) -> int:
        """Return the declared number; else 1 if all images are gray, and 3 if not."""
        if self.channels is not None:
            return self.channels
        for part in (self.train, self.test):
            assert part.images is not None
            for header in _headers(part.images):
                if not isinstance(header, str) and header[0] not in GRAY_MODES:
                    return 3
        return 1


def describe_source(
    source: Source, plan: Plan, *, slow_labels: Collection[str] = ()
) -> Description:
    """Describe the chosen rows of a source.

    Args:
        source: The dataset.
        plan: The rows.
        slow_labels: Parts (``"train"``, ``"test"``) whose labels are read even if that
            is slow. Otherwise, they are checked when their images are read.

    Raises:
        InvalidInputError: If labels are missing or wrong.
    """
    notes = source.notes(plan.splits)
    class_names = source.class_names(plan.train.splits)
    train, test = (
        _select(source, rows, class_names, read_labels=part in slow_labels)
        for part, rows in (("train", plan.train), ("test", plan.test))
    )
    return Description(
        name=source.name,
        kind=source.kind,
        location=source.location,
        splits={},
        class_names=tuple(class_names),
        train=train,
        test=test,
        skipped=Counter(notes.skipped),
        repeated=notes.repeated,
        broken_files=notes.broken,
        doubts=doubts_about_rows(notes, plan, class_names, train.labels, test.labels),
        channels=source.channels,
    )


def doubts_about_rows(
    notes: Notes,
    plan: Plan,
    class_names: list[str],
    train: np.ndarray | None,
    test: np.ndarray | None,
) -> tuple[str, ...]:
    """Return probable mistakes in the chosen rows, one sentence each.

    Args:
        notes: Notes of the source about the files.
        plan: The chosen rows.
        class_names: Names of the classes.
        train: Labels of the training rows, if they are known.
        test: Labels of the test rows, if they are known.
    """
    doubts = [] if plan.warning is None else [plan.warning]
    doubts += [*notes.doubts, *doubts_about_names(class_names)]
    if notes.repeated:
        links = len(notes.repeated)
        doubts.append(
            f"{count(links, 'link')} to images that are counted already "
            f"{'is' if links == 1 else 'are'} left out, such as {notes.repeated[0]}"
        )
    if train is not None and test is not None:
        doubts += doubts_about_counts(train, test, class_names)
    return tuple(doubts)


def _select(
    source: Source,
    specification: Specification,
    class_names: list[str],
    *,
    read_labels: bool,
) -> Part:
    """Select the rows of a specification.

    Whole splits and shuffled sources keep the order of their rows. Other slices take
    the same share of each class, because a listing that is sorted by class would put
    whole classes into one slice.
    """
    pieces, labels = [], []
    for split, rows in specification.rows(source.count):
        chosen = np.arange(rows.start, rows.stop)
        known = None
        if read_labels or not source.labels_are_slow:
            known = source.labels(split, class_names)
            if not source.in_row_order and len(rows) < source.count(split):
                chosen = np.sort(in_even_shares(known)[chosen])
            labels.append(known[chosen])
        pieces.append((source.images(split), chosen))
    total = sum(len(rows) for _, rows in pieces)
    if not labels:
        images = Selected(pieces, len(class_names))
        return Part(str(specification), total, None, images)
    joined = np.concatenate(labels)
    images = Selected(pieces, len(class_names), joined)
    check_labels(joined, len(class_names), images.where)
    return Part(str(specification), total, joined, images)


def count_splits(source: Source) -> dict[str, int]:
    """Count the rows of each split; leave out folders that are not splits."""
    counts = {}
    for split in source.splits():
        try:
            counts[split] = source.count(split)
        except (InvalidInputError, OSError):
            continue
    return counts


def _headers(images: Selected) -> Iterator[tuple[str, tuple[int, int]] | str]:
    """Yield the mode and the size of each image, or why it cannot be read."""
    for start in range(0, len(images), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(images)))
        try:
            found = images.read(rows)
        except InvalidInputError:
            yield from (_header_of_row(images, row) for row in rows)
            continue
        for row, (encoded, _) in zip(rows, found, strict=True):
            yield _header(images.where(row), encoded)


def _header_of_row(images: Selected, row: int) -> tuple[str, tuple[int, int]] | str:
    try:
        ((encoded, _),) = images.read([row])
    except InvalidInputError as error:
        return str(error)
    return _header(images.where(row), encoded)


def _header(where: str, encoded: bytes) -> tuple[str, tuple[int, int]] | str:
    """Return the mode and the size of an encoded image, or why it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with opened(encoded) as image:
            return image.mode, upright_size(image)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        return str(unreadable(where, error))
