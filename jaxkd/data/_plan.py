"""Choose the rows of a source to train on and to test on."""

from typing import NamedTuple

from jaxkd._errors import InvalidInputError
from jaxkd.data._slices import (
    SPLIT_OPTIONS,
    Specification,
    check_disjoint,
    fingerprint_of_rows,
    parse,
)
from jaxkd.data._source import Source


class UnlabeledSplitWarning(UserWarning):
    """The split ``test`` has no labels, and another one is used for testing."""


class Plan(NamedTuple):
    """The rows to train on and to test on.

    Attributes:
        train: Training rows.
        test: Test rows.
        default_test: Test split if the user does not choose one; None if the source has
            none.
        is_chosen: Whether the user named the test rows.
        warning: Sentence about the split that replaces an unlabeled one, or None.
    """

    train: Specification
    test: Specification
    default_test: str | None
    is_chosen: bool
    warning: str | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all used splits, each once."""
        return tuple(dict.fromkeys((*self.train.splits, *self.test.splits)))

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Names of the splits that are used for training and for testing."""
        return {"train": self.train.splits, "test": self.test.splits}

    @property
    def fingerprint(self) -> str:
        """Part of the dataset's fingerprint; empty for the default rows."""
        return fingerprint_of_rows(self.train, self.test, self.default_test)


def make_plan(source: Source, train_split: str | None, test_split: str | None) -> Plan:
    """Choose the rows, without looking at labels.

    Args:
        source: The dataset.
        train_split: Specification of the training rows; None for the split ``train``.
        test_split: Specification of the test rows; None for the best of the source's
            splits.

    Raises:
        InvalidInputError: If a split does not exist, or rows are used for both.
    """
    names = source.splits()
    train = parse("train" if train_split is None else train_split, "train_split")
    default = next((name for name in source.test_names if name in names), None)
    if train_split is None and "train" not in names:
        raise source.missing("train")
    if test_split is None and default is None:
        raise source.missing("test")
    test = parse(str(default) if test_split is None else test_split, "test_split")
    for specification in (train, test):
        specification.check_known(source.splits(), source.location)
    plan = Plan(train, test, default, test_split is not None)
    if {*train.splits} & {*test.splits}:
        check_disjoint(train, test, source.count)
    return plan


def with_labeled_test(source: Source, plan: Plan) -> Plan:
    """Test on the next split if the default one has no labels.

    Raises:
        InvalidInputError: If no split to test on has labels.
    """
    if plan.is_chosen:
        return plan
    class_names = source.class_names(plan.train.splits)
    names = [name for name in source.test_names if name in source.splits()]
    for name in names:
        if not source.is_unlabeled(name, class_names):
            return plan if name == names[0] else _moved(source, plan, name)
    raise InvalidInputError(
        f"the split {names[0]!r} of {source.location} has no labels to test with; "
        f"select labeled rows, such as {SPLIT_OPTIONS}",
        argument="test_split",
    )


def _moved(source: Source, plan: Plan, name: str) -> Plan:
    warning = (
        f"the split {str(plan.test)!r} of {source.name} has no labels, so {name!r} is "
        "used for testing; choose another with test_split (--test-split)"
    )
    moved = plan._replace(test=parse(name, "test_split"), warning=warning)
    check_disjoint(moved.train, moved.test, source.count)
    return moved
