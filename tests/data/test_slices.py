"""Specifications of rows, such as ``train[:90%]``."""

import inspect

import numpy as np
import pytest

from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data._slices import check_disjoint, in_even_shares, parse

COUNTS = {"train": 30, "validation": 10, "odd": 7}


def rows_of(text):
    found = parse(text, "train_split").rows(COUNTS.__getitem__)
    return [(split, row) for split, rows in found for row in rows]


@pytest.mark.parametrize(
    "text, split, start, stop",
    [
        ("train", "train", 0, 30),
        ("train[:]", "train", 0, 30),
        ("train[:90%]", "train", 0, 27),
        ("train[90%:]", "train", 27, 30),
        ("train[10%:20%]", "train", 3, 6),
        ("train[:5]", "train", 0, 5),
        ("train[1_0:2_0]", "train", 10, 20),
        ("train[-5:]", "train", 25, 30),
        ("train[:-10%]", "train", 0, 27),
        ("train[33.3%:]", "train", 10, 30),
        ("odd[:50%]", "odd", 0, 4),  # 3.5, rounded to the nearest even as in TFDS
        ("odd[50%:]", "odd", 4, 7),
        (" validation[5:] ", "validation", 5, 10),
    ],
)
def test_a_slice_has_the_rows_of_tfds(text, split, start, stop):
    assert rows_of(text) == [(split, row) for row in range(start, stop)]


def test_slices_are_joined_in_order():
    joined = rows_of("validation[:2]+train[28:]+train[:1]")
    expected = [("validation", 0), ("validation", 1), ("train", 28), ("train", 29)]
    assert joined == [*expected, ("train", 0)]


@pytest.mark.parametrize("share", ["20%", "33%", "50%", "90%"])
@pytest.mark.parametrize("split", COUNTS)
def test_two_complements_have_every_row_once(split, share):
    both = rows_of(f"{split}[:{share}]+{split}[{share}:]")
    assert both == rows_of(split)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "must name a split and its rows"),
        ("train[", "must name a split and its rows"),
        ("train[:90%", "must name a split and its rows"),
        ("train[::2]", "must name a split and its rows"),
        ("train[50%]", "must name a split and its rows"),
        ("train[a:b]", "must name a split and its rows"),
        ("train[:90 %]", "must name a split and its rows"),
        ("train+", "must name a split and its rows"),
        ("train[:101%]", "101% is more than 100%"),
        ("train[:31]", "31 is more than the split's 30 rows"),
        ("train[-31:]", "-31 is more than the split's 30 rows"),
        ("train[5:5]", "selects none of the 30 rows"),
        ("train[20:10]", "selects none of the 30 rows"),
        ("train+train[:10%]", "3 rows of 'train' are selected twice"),
    ],
)
def test_other_specifications_are_refused_with_their_text(text, says):
    with pytest.raises(InvalidInputError, match=r"^train_split is '") as error:
        rows_of(text)
    assert says in str(error.value)
    assert text in str(error.value)


@pytest.mark.parametrize(
    "train, test, shared",
    [
        ("train", "train", 30),
        ("train[:90%]", "train[80%:]", 3),
        ("train[:10]+train[20:]", "train[5:15]", 5),
        ("train+validation", "validation[-1:]", 1),
    ],
)
def test_rows_for_training_and_testing_are_refused_with_both(train, test, shared):
    with pytest.raises(InvalidInputError, match=f"share {shared} rows") as error:
        check_disjoint(
            parse(train, "train_split"), parse(test, "test_split"), COUNTS.__getitem__
        )
    assert f"'{train}'" in str(error.value)
    assert f"'{test}'" in str(error.value)


@pytest.mark.parametrize("counts", [(10, 10), (7, 3), (1, 50, 9), (4,), (2, 2, 2, 90)])
def test_every_slice_has_the_share_of_each_class(counts):
    labels = np.repeat(np.arange(len(counts)), counts)  # sorted, as in a listing
    order = in_even_shares(labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
    for stop in range(len(labels) + 1):
        found = np.bincount(labels[order[:stop]], minlength=len(counts))
        exact = np.array(counts) * stop / len(labels)
        assert (np.abs(found - exact) <= 1 + len(counts) / 2).all()


def test_the_rows_of_a_class_keep_their_order():
    labels = np.array([1, 0, 1, 0, 0, 1])
    order = in_even_shares(labels)
    for label in (0, 1):
        own = order[labels[order] == label]
        assert (np.diff(own) > 0).all()


def test_ninety_percent_of_equal_classes_are_ninety_percent_of_each():
    order = in_even_shares(np.repeat([0, 1, 2], 20))
    np.testing.assert_array_equal(np.bincount(np.sort(order[:54]) // 20), [18, 18, 18])


@pytest.mark.parametrize("text", [3, ["train"], b"train", slice(0, 3)])
def test_specifications_that_are_no_text_are_refused(text):
    unchecked = inspect.unwrap(parse)  # without the type checks of tests
    with pytest.raises(InvalidTypeError, match="must be text such as") as caught:
        unchecked(text, "train_split")
    assert caught.value.argument == "train_split"
