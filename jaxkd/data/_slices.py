"""Choose rows of splits in the syntax of TFDS: ``train[:90%]``, ``train+test``."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxkd._errors import InvalidInputError, InvalidTypeError

SPLIT_OPTIONS = "--train-split 'train[:90%]' --test-split 'train[90%:]'"
"""Options that divide the split ``train``, for error messages."""

_BOUND = r"-?\d[\d_]*(?:\.\d+)?%|-?\d[\d_]*"
_SLICE = re.compile(
    rf"(?P<split>[^\[\]]+)(?:\[(?P<start>{_BOUND})?:(?P<stop>{_BOUND})?\])?"
)


class Slice(NamedTuple):
    """Consecutive rows of one split.

    Attributes:
        split: Name of the split.
        start: First row, such as ``"10"``, ``"-10"`` or ``"10%"``; empty for the first.
        stop: Row after the last one; empty for the end.
    """

    split: str
    start: str = ""
    stop: str = ""

    def __str__(self) -> str:
        if self.start or self.stop:
            return f"{self.split}[{self.start}:{self.stop}]"
        return self.split

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the split are chosen."""
        return not (self.start or self.stop)

    def rows(self, count: int) -> range:
        """Return the row numbers in a split of ``count`` rows.

        Raises:
            ValueError: If a bound lies outside the split.
        """
        return range(
            _row(self.start, count) if self.start else 0,
            _row(self.stop, count) if self.stop else count,
        )


class Rows(NamedTuple):
    """Numbers of consecutive rows of one split."""

    split: str
    rows: range


class Specification(NamedTuple):
    """Slices that are used together, such as ``train[:90%]+validation``.

    Attributes:
        slices: The slices, in order.
        argument: Name of the argument in error messages.
    """

    slices: tuple[Slice, ...]
    argument: str

    def __str__(self) -> str:
        return "+".join(map(str, self.slices))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, each once."""
        return tuple(dict.fromkeys(part.split for part in self.slices))

    def check_known(self, names: Sequence[str], where: object) -> None:
        """Check that all splits exist.

        Args:
            names: Names of the splits that exist.
            where: The dataset, in error messages.

        Raises:
            InvalidInputError: If there is no split of some name.
        """
        unknown = [name for name in self.splits if name not in names]
        if unknown:
            raise self._error(
                f"{where} has no split {unknown[0]!r}; its splits are "
                f"{', '.join(names)}"
            )

    def rows(self, count: Callable[[str], int]) -> list[Rows]:
        """Return the rows of each slice.

        Args:
            count: Returns the number of rows of a split.

        Raises:
            InvalidInputError: If a slice is empty or leaves its split, or if a row is
                chosen twice.
        """
        found: list[Rows] = []
        for part in self.slices:
            total = count(part.split)
            try:
                rows = part.rows(total)
            except ValueError as error:
                raise self._error(str(error)) from None
            if not len(rows):
                raise self._error(
                    f"'{part}' selects none of the {total:,} rows of {part.split!r}"
                )
            new = Rows(part.split, rows)
            if shared := shared_rows(found, [new]):
                raise self._error(
                    f"{shared[1]:,} rows of {shared[0]!r} are selected twice"
                )
            found.append(new)
        return found

    def _error(self, problem: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self.argument} is '{self}', but {problem}", argument=self.argument
        )


def parse(text: str, argument: str) -> Specification:
    """Parse ``SPLIT``, ``SPLIT[START:STOP]`` or several of them, joined by ``+``.

    Args:
        text: The specification. Bounds are row numbers or percents, and negative ones
             count from the end.
        argument: Name of the argument in error messages.

    Raises:
        InvalidInputError: If the text has another form.
        InvalidTypeError: If it is not text.
    """
    if not isinstance(text, str):
        raise InvalidTypeError(
            f"{argument} must be text such as 'train[:90%]', got {text!r}",
            argument=argument,
        )
    slices = []
    for part in text.split("+"):
        found = _SLICE.fullmatch(part.strip())
        if found is None:
            raise InvalidInputError(
                f"{argument} is {text!r}, but it must name a split and its rows, such "
                "as train, train[:90%], train[1000:] or train+validation",
                argument=argument,
            )
        bounds = ((found[name] or "").replace("_", "") for name in ("start", "stop"))
        slices.append(Slice(found["split"].strip(), *bounds))
    return Specification(tuple(slices), argument)


def shared_rows(
    first: Sequence[Rows], second: Sequence[Rows]
) -> tuple[str, int] | None:
    """Return the split that two selections share, and the number of shared rows."""
    for ours in first:
        for theirs in second:
            start = max(ours.rows.start, theirs.rows.start)
            stop = min(ours.rows.stop, theirs.rows.stop)
            if ours.split == theirs.split and start < stop:
                return ours.split, stop - start
    return None


def check_disjoint(
    train: Specification, test: Specification, count: Callable[[str], int]
) -> None:
    """Check that no row is used for training and for testing.

    Raises:
        InvalidInputError: If the specifications overlap; the message names both.
    """
    shared = shared_rows(train.rows(count), test.rows(count))
    if shared is not None:
        split, rows = shared
        raise InvalidInputError(
            f"the training rows '{train}' and the test rows '{test}' share {rows:,} "
            f"rows of {split!r}; select others, such as train[:90%] (--train-split) "
            "and train[90%:] (--test-split)",
            argument="test_split",
        )


def fingerprint_of_rows(
    train: Specification, test: Specification, default_test: str | None
) -> str:
    """Return the part of a dataset's fingerprint for its rows; empty for the default.

    Args:
        train: Training rows.
        test: Test rows.
        default_test: The split to test on by default.
    """
    chosen = "" if str(train) == "train" else f", train {train}"
    return chosen + ("" if str(test) == default_test else f", test {test}")


def in_even_shares(labels: np.ndarray) -> np.ndarray:
    """Order rows so that every slice contains the same share of each class.

    The rows of a class keep their order. Row ``i`` of the ``n`` rows of a class is
    placed at the share ``(i + 1/2) / n`` of the whole.

    Args:
        labels: Label of each row.

    Returns:
        The row numbers in this order.
    """
    by_class = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(
        labels[by_class], return_index=True, return_counts=True
    )
    within = np.arange(len(labels)) - np.repeat(starts, counts)
    share = np.empty(len(labels))
    share[by_class] = (within + 0.5) / np.repeat(counts, counts)
    return np.lexsort((labels, share))


def _row(bound: str, count: int) -> int:
    """Return the row number of a bound; percents are rounded as TFDS rounds them."""
    if bound.endswith("%"):
        percent = float(bound[:-1])
        if abs(percent) > 100:
            raise ValueError(f"{bound} is more than 100%")
        value = round(percent * count / 100)
    else:
        value = int(bound)
        if abs(value) > count:
            raise ValueError(f"{bound} is more than the split's {count:,} rows")
    return value + count if value < 0 or bound.startswith("-") else value
