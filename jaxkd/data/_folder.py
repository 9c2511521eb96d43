"""Datasets in image folders, with one folder per class."""

import functools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxkd._errors import InvalidInputError
from jaxkd.data._assemble import digest_of
from jaxkd.data._cache import stamp_of
from jaxkd.data._dataset import Augmentation, default_augmentation
from jaxkd.data._files import (
    IMAGE_SUFFIXES,
    doubts_about_skipped,
    find_images,
    folders,
    identity,
)
from jaxkd.data._labels import UNLABELED, check_class_names, normal_form
from jaxkd.data._slices import SPLIT_OPTIONS
from jaxkd.data._source import Notes, Source, splits_by_stamp

# Other common names of a test folder, and the name to suggest for each.
_SUGGESTED_TEST_NAMES = {
    **dict.fromkeys(("valid", "eval", "dev", "val", "validation"), "val"),
    **dict.fromkeys(("testing", "tests", "test"), "test"),
}
# Part of the cache key. Change it with the layout, so that old folders are not read.
_CACHE_FORMAT = "folder 2"


class ImageFiles:
    """Image files.

    Args:
        root: Folder that the names are relative to.
        names: File name of each image.
    """

    def __init__(self, root: Path, names: Sequence[str]):
        self.root, self.names = root, tuple(names)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: Sequence[int]) -> list[tuple[bytes, int | None]]:
        """Return the encoded images of some rows."""
        return [((self.root / self.names[row]).read_bytes(), None) for row in rows]

    def where(self, row: int) -> str:
        """Describe an image in error messages."""
        return str(self.root / self.names[row])


class _Listing(NamedTuple):
    """The files of one split.

    Attributes:
        files: Its images.
        classes: Name of each image's class; None if the split has no class folders.
        notes: Remarks about them.
        linked: Whether some images have several names.
    """

    files: ImageFiles
    classes: list[str] | None
    notes: Notes
    linked: bool = False


class FolderSource(Source):
    """``root/train/CLASS/*.jpg`` and ``root/test/CLASS/*.jpg``, or ``root/CLASS``.

    Args:
        root: The folder.
        requested: Names of the splits that the user asked for. If there is no folder of
            such a name, and none is called ``train``, the folder itself is ``train``.

    Raises:
        InvalidInputError: If the folder has another structure.
    """

    kind = "folder"
    test_names = ("test", "val", "validation")
    in_row_order = False
    labels_are_slow = False

    def __init__(self, root: Path, requested: Sequence[str] = ()):
        self.name, self.location = root.resolve().name, str(root)
        self._root = root
        self._folders = {path.name: path for path in folders(root)}
        apart = "train" in self._folders or {*requested} & {*self._folders}
        if requested and not apart:
            self._folders = {"train": root}
        self._listing = functools.cache(self._list)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the folders, which may be splits."""
        return tuple(self._folders)

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self._listing(split).files)

    def class_names(self, splits: Sequence[str]) -> list[str]:
        """Return the names of the class folders, sorted."""
        names = set()
        for split in splits:
            names |= {*(self._listing(split).classes or ())}
        if not names:
            raise InvalidInputError(
                f"{self._folders[splits[0]]} must contain one folder per class, but "
                "it contains no folder",
                argument="name",
            )
        self._check_depth(splits, names)
        ordered = sorted(names)
        check_class_names(ordered, self.location)
        return ordered

    def _check_depth(self, splits: Sequence[str], names: set[str]) -> None:
        """Check that the class folders are not one level further down."""
        inner = {
            name.split(os.sep)[1]
            for split in splits
            for name in self._listing(split).files.names
            if name.count(os.sep) > 1
        }
        if len(names) == 1 and len(inner) > 1:
            (only,), shown = names, ", ".join(sorted(inner)[:5])
            raise InvalidInputError(
                f"{self._folders[splits[0]]} contains one folder {only!r}, whose "
                f"images are in the folders {shown}; if these are the classes, move "
                f"them up to {self._folders[splits[0]]}",
                argument="name",
            )

    def labels(self, split: str, class_names: Sequence[str]) -> np.ndarray:
        """Return the class number of each image."""
        files, classes, *_ = self._listing(split)
        numbers = {name: i for i, name in enumerate(class_names)}
        unknown = sorted({*(classes or ())} - {*numbers})
        if classes is None or (len(unknown) == 1 and {*classes} == {*unknown}):
            return np.full(len(files), UNLABELED)
        if unknown:
            raise InvalidInputError(
                f"{self._folders[split]} contains "
                f"{', '.join(map(repr, unknown[:5]))}, which "
                f"{'is not a class' if len(unknown) == 1 else 'are not classes'} of "
                f"the training images, which are {', '.join(class_names[:10])}; "
                "rename or remove what does not belong to them",
                argument="name",
            )
        return np.array([numbers[name] for name in classes])

    def is_unlabeled(self, split: str, class_names: Sequence[str]) -> bool:
        """Return whether a split has no folder of a class."""
        return bool((self.labels(split, class_names) == UNLABELED).all())

    def images(self, split: str) -> ImageFiles:
        """Return the images of a split."""
        return self._listing(split).files

    def notes(self, splits: Sequence[str]) -> Notes:
        """Return ignored files, links and broken files, and probable mistakes."""
        every = [self._listing(split).notes for split in splits]
        doubts = [doubt for notes in every for doubt in notes.doubts]
        skipped = sum((Counter(notes.skipped) for notes in every), Counter())
        doubts += doubts_about_skipped(skipped, self._root)
        return Notes(
            skipped,
            tuple(link for notes in every for link in notes.repeated),
            tuple(file for notes in every for file in notes.broken),
            (*doubts, *self._doubts_between(splits)),
        )

    def _doubts_between(self, splits: Sequence[str]) -> list[str]:
        """Return a doubt if links make an image part of several splits."""
        if len(splits) < 2 or not any(
            self._listing(split).notes.repeated or self._listing(split).linked
            for split in splits
        ):
            return []
        seen: dict[Any, str] = {}
        shared = []
        for split in splits:
            files = self._listing(split).files
            for row in range(len(files)):
                path = files.where(row)
                first = seen.setdefault(identity(path), path)
                if first != path and first not in shared:
                    shared.append(first)
        if not shared:
            return []
        return [
            f"{len(shared):,} image{'s are' if len(shared) > 1 else ' is'} linked into "
            f"several of the splits {' and '.join(splits)}, such as {shared[0]}; test "
            "images should not be trained on"
        ]

    def missing(self, split: str) -> InvalidInputError:
        """Build the error for a split that is needed and does not exist."""
        del split
        return _missing(self._root, [*self._folders])

    def stamp(self, parts: dict[str, tuple[str, ...]]) -> Any:
        """Start the hash of the cache key."""
        files = {
            key: self._listing(split).files
            for key, split in splits_by_stamp(parts).items()
        }
        return digest_of([_CACHE_FORMAT, *stamps_of(files)])

    def cache_name(self) -> str:
        """Return the readable beginning of the cache folder's name."""
        return f"folder-{self.name}"

    def fingerprint(self, contents: str) -> str:
        """Return the beginning of the dataset's fingerprint."""
        return f"folder:{contents}"

    def augmentation(self, image_shape: tuple[int, ...]) -> Augmentation:
        """Return a crop without mirroring, which may change the class."""
        return Augmentation(default_augmentation("", image_shape).crop_padding)

    def _list(self, split: str) -> _Listing:
        root = self._folders[split]
        outer = {identity(self._root): self._root, identity(root): root}
        inside = folders(root)
        classes = [path for path in inside if identity(path) not in outer]
        if not classes:
            loose = find_images(root, outer)
            if not loose.names:
                raise InvalidInputError(
                    f"{root} must contain one folder per class, but it contains no "
                    "folder; move the images of each class to a folder of its name",
                    argument="name",
                )
            notes = Notes(loose.skipped, (), tuple(loose.broken))
            return _Listing(ImageFiles(root, loose.names), None, notes, loose.linked)
        loops = [str(path) for path in inside if path not in classes]
        return _list_classes(root, classes, outer, loops)


def _list_classes(
    root: Path, classes: list[Path], outer: dict[Any, Path], repeated: list[str]
) -> _Listing:
    """List the images of each class folder.

    Args:
        root: Folder of the split.
        classes: Its class folders.
        outer: The folders around them, by identity.
        repeated: Links that are known to be left out.
    """
    names, labels, broken, linked = [], [], [], False
    skipped = _beside(root)
    by_name: dict[str, list[Path]] = {}
    taken = _different_folders(classes) | outer.keys()
    for folder in classes:
        found = find_images(folder, taken)
        if not found.names and not found.broken:
            raise InvalidInputError(
                f"the class folder {folder} contains no images "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}); fill it or remove it",
                argument="name",
            )
        by_name.setdefault(normal_form(folder.name), []).append(folder)
        names += [os.path.join(folder.name, name) for name in found.names]
        labels += [normal_form(folder.name)] * len(found.names)
        repeated += found.repeated
        broken += found.broken
        skipped.update(found.skipped)
        linked |= found.linked
    if linked:
        names, labels, again = _each_once(root, names, labels)
        repeated += again
    doubts = [
        f"{len(twins)} folders in {root} are called {name!r}, in different Unicode "
        "forms; they are one class"
        for name, twins in by_name.items()
        if len(twins) > 1
    ]
    deep = sum(name.count(os.sep) > 1 for name in names)
    if deep:
        doubts.append(
            f"{deep:,} of {len(names):,} images in {root} are in folders inside of "
            "class folders; their class is that of the outer folder"
        )
    notes = Notes(skipped, tuple(repeated), tuple(broken), tuple(doubts))
    return _Listing(ImageFiles(root, names), labels, notes, linked)


def _different_folders(classes: list[Path]) -> set[Any]:
    """Return the identities of the class folders.

    Raises:
        InvalidInputError: If one is a link to another, so that images have two classes.
    """
    by_identity: dict[Any, Path] = {}
    for folder in classes:
        twin = by_identity.setdefault(identity(folder), folder)
        if twin != folder:
            raise InvalidInputError(
                f"the class folders {twin} and {folder} are one folder, by a link; "
                "remove the link, so that each image has one class",
                argument="name",
            )
    return {*by_identity}


def _each_once(
    root: Path, names: list[str], labels: list[str]
) -> tuple[list[str], list[str], list[str]]:
    """Leave out links to images that are listed already.

    Returns:
        The names and labels that remain, and the links that were left out.

    Raises:
        InvalidInputError: If an image has two classes.
    """
    seen: dict[Any, int] = {}
    kept, repeated = [], []
    for row, name in enumerate(names):
        first = seen.setdefault(identity(root / name), row)
        if first == row:
            kept.append(row)
        elif labels[first] == labels[row]:
            repeated.append(str(root / name))
        else:
            raise InvalidInputError(
                f"{root / name} and {root / names[first]} are links to one image, with "
                "two classes; remove one of them",
                argument="name",
            )
    return [names[i] for i in kept], [labels[i] for i in kept], repeated


def _beside(root: Path) -> Counter[str]:
    """Count the files beside the class folders; images there have no class."""
    shown = (path for path in root.iterdir() if not path.name.startswith("."))
    return Counter(path.suffix.lower() for path in shown if not path.is_dir())


def _missing(root: Path, names: list[str]) -> InvalidInputError:
    """Build the error for a folder without training or test images."""
    similar = [name for name in names if name.lower() in _SUGGESTED_TEST_NAMES]
    if "train" in names and similar:
        return InvalidInputError(
            f"{root} contains no folder test or val; rename {similar[0]} to "
            f"{_SUGGESTED_TEST_NAMES[similar[0].lower()]}, or use it with --test-split "
            f"{similar[0]}",
            argument="name",
        )
    capital = next((name for name in names if name.lower() == "train"), None)
    if capital and similar:
        return InvalidInputError(
            f"{root} contains no folder train; rename {capital} to train, or use "
            f"--train-split {capital} --test-split {similar[0]}",
            argument="name",
        )
    inside = [name for name in names if (root / name / "train").is_dir()]
    if inside:
        return InvalidInputError(
            f"{root} contains no folder train, but {inside[0]} does; give "
            f"{root / inside[0]}",
            argument="name",
        )
    found = ", ".join(names[:5]) or "no folders"
    return InvalidInputError(
        f"{root} must contain train/CLASS/IMAGE and test/CLASS/IMAGE (or val), but it "
        f"contains {found}; move some images of each class to test/CLASS and the "
        f"others to train/CLASS, or split its images with {SPLIT_OPTIONS}",
        argument="name",
    )


def stamps_of(files: dict[str, ImageFiles]) -> list[str]:
    """Return strings that change if an image changes, without reading images."""
    stamps = []
    for part, images in files.items():
        stamps.append(part)
        # Joining text is much faster than joining paths.
        stamps += [
            f"{name} {stamp_of(f'{images.root}/{name}')}" for name in images.names
        ]
    return stamps
