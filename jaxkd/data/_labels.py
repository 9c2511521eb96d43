"""Check class numbers and class names; every kind of dataset uses these checks."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from jaxkd._errors import InvalidInputError

UNLABELED = -1
"""Stands for a missing label, as in TFDS."""


def check_labels(
    labels: np.ndarray, num_classes: int, where: Callable[[int], str]
) -> None:
    """Check that every row has the number of a class.

    Args:
        labels: Labels of some rows.
        num_classes: Number of classes.
        where: Describes a row in error messages.

    Raises:
        InvalidInputError: If a label is missing or out of range.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if not len(wrong):
        return
    first, place = labels[wrong[0]], where(int(wrong[0]))
    if first < 0:
        count = int((labels < 0).sum())
        raise InvalidInputError(
            f"{count:,} of {len(labels):,} rows have no label (empty or negative), "
            f"such as {place}; leave them out, or choose a labeled split "
            "(--train-split, --test-split)",
            argument="labels",
        )
    raise InvalidInputError(
        f"{place} has the label {first}, but labels must lie in "
        f"[0, {num_classes - 1}] for {num_classes} classes",
        argument="labels",
    )


def count_numbered_classes(labels: Sequence[np.ndarray], where: str) -> int:
    """Count classes without names: those numbered from 0 to the largest label.

    Args:
        labels: Integer labels of each split; negative ones are ignored.
        where: What the labels belong to, in error messages.

    Raises:
        InvalidInputError: If class 0 has no image, or if there are more classes than
            images. The labels are then probably not class numbers.
    """
    every = np.concatenate([np.asarray(own).ravel() for own in labels])
    if not len(every) or every.max() < 0:
        return 1
    used = every[every >= 0]
    low, high = int(used.min()), int(used.max())
    if high - low >= len(every):
        raise InvalidInputError(
            f"the labels of {where} reach {high:,}, which makes {high + 1:,} classes "
            f"for {len(every):,} images; number the classes from 0 without gaps, or "
            "name them",
            argument="name",
        )
    if low > 0:
        raise InvalidInputError(
            f"the labels of {where} are {low} to {high}, so class 0 has no image; "
            f"subtract {low} from the labels, or name the classes",
            argument="name",
        )
    return high + 1


def normal_form(name: str) -> str:
    """Return a name in the Unicode form NFC, which programs on Linux and Windows use.

    File systems of macOS return other bytes (NFD) for the same letters.
    """
    return unicodedata.normalize("NFC", name)


def check_class_names(names: Sequence[str], where: str) -> None:
    """Check that names are different and printable as UTF-8.

    Raises:
        InvalidInputError: If a name occurs twice, or is not text.
    """
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InvalidInputError(
            f"{where} names the class {repeated[0]!r} twice; give each class its own "
            "name",
            argument="name",
        )
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(
                f"the class name {name!a} of {where} is not UTF-8; rename it",
                argument="name",
            ) from None


def doubts_about_names(names: Sequence[str]) -> list[str]:
    """Return doubts about class names that look alike, or about a single class."""
    doubts, seen = [], {}
    if len(names) == 1:
        doubts.append(
            f"there is only the class {names[0]!r}, so that every answer is correct; "
            "check the dataset"
        )
    for name in names:
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if folded in seen:
            doubts.append(
                f"the classes {seen[folded]!r} and {name!r} look alike; if they are "
                "one class, give them one name"
            )
        seen.setdefault(folded, name)
    return doubts


def doubts_about_counts(
    train: np.ndarray, test: np.ndarray, names: Sequence[str]
) -> list[str]:
    """Return doubts about classes without training or without test images."""
    doubts = []
    for part, labels in (("training", train), ("test", test)):
        counts = np.bincount(labels[labels >= 0], minlength=len(names))
        empty = [name for name, n in zip(names, counts, strict=True) if not n]
        if empty:
            more = f" and {len(empty) - 5} others" if len(empty) > 5 else ""
            classes = "class" if len(empty) == 1 else "classes"
            doubts.append(
                f"{len(empty)} of {len(names)} classes have no {part} images: "
                f"{classes} {', '.join(map(repr, empty[:5]))}{more}"
            )
    return doubts
