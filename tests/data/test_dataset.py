import dataclasses
import re

import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._dataset import default_augmentation


def dataset(train, test=None, **settings):
    arguments = {"name": "mine", "num_classes": 3} | settings
    return data.ImageDataset(train=train, test=test or train, **arguments)


def test_valid_arrays_are_not_copied(make_split):
    split = make_split(5)
    kept = dataset(split).train
    assert kept.images is split.images
    assert kept.labels is split.labels


def test_labels_become_int32(make_split):
    split = make_split(5)
    kept = dataset(data.Split(split.images, split.labels.astype(np.int64)))
    assert kept.train.labels.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_floating_images_become_float32(make_split, dtype):
    split = make_split(5)
    kept = dataset(data.Split((split.images / 255).astype(dtype), split.labels))
    assert kept.train.images.dtype == np.float32


def test_classes_are_named_by_number_by_default(make_split):
    assert dataset(make_split(5)).class_names == ("0", "1", "2")


def test_image_shape_is_height_width_channels(make_split):
    assert dataset(make_split(5, (6, 5, 2))).image_shape == (6, 5, 2)


def test_a_dataset_is_immutable(make_split):
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset(make_split(5)).num_classes = 4


def test_the_fingerprint_depends_on_the_contents(make_split):
    split = make_split(5)
    same = data.Split(split.images.copy(), split.labels.copy())
    other = data.Split(split.images ^ np.uint8(1), split.labels)
    assert dataset(split).fingerprint == dataset(same).fingerprint
    assert dataset(split).fingerprint != dataset(other, split).fingerprint
    assert dataset(split).fingerprint != dataset(split, other).fingerprint


IMAGES, LABELS = np.zeros((4, 6, 5, 3), np.uint8), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (IMAGES[:0], LABELS[:0], r"train.images must be a non-empty"),
        (IMAGES[..., 0], LABELS, r"train.images must be .*\(4, 6, 5\)"),
        (IMAGES, LABELS[:3], r"train.labels .* 4 images, got shape \(3,\)"),
        (IMAGES, LABELS[:, None], r"train.labels .* got shape \(4, 1\)"),
        (IMAGES, LABELS - 1, r"train.labels must lie in \[0, 2\].*got -1 to 1"),
        (IMAGES, LABELS + 1, r"train.labels must lie in \[0, 2\].*got 1 to 3"),
        (IMAGES, LABELS / 1.0, r"train.labels must be integers, got dtype float64"),
        (IMAGES.astype(np.int32), LABELS, r"train.images must be uint8 or float"),
    ],
)
def test_the_error_for_an_invalid_array_names_it(images, labels, message):
    with pytest.raises(InvalidInputError, match=message):
        dataset(data.Split(images, labels), data.Split(IMAGES, LABELS))


ROWS = np.arange(40) % 3


@pytest.mark.parametrize(
    "shape, remedy",
    [
        ((40, 3, 32, 30), "np.moveaxis(x, 1, -1)"),
        ((40, 1, 28, 28), "np.moveaxis(x, 1, -1)"),
        ((40, 4, 16, 16), "np.moveaxis(x, 1, -1)"),
        ((32, 30, 3, 40), "np.moveaxis(x, -1, 0)"),
        ((28, 28, 1, 40), "np.moveaxis(x, -1, 0)"),
        ((3, 32, 32, 40), "np.transpose(x, (3, 1, 2, 0))"),
        ((28, 28, 40, 1), "np.moveaxis(x, 2, 0)"),
        ((40, 28, 28), "x[..., None]"),
        ((40, 784), "x.reshape(-1, 28, 28, 1)"),
        ((40, 3072), "x.reshape(-1, 32, 32, 3), or"),
    ],
)
def test_the_error_for_other_axes_says_how_to_move_them(shape, remedy):
    images = np.zeros(shape, np.uint8)
    with pytest.raises(InvalidInputError, match=re.escape(remedy)) as caught:
        dataset(data.Split(images, ROWS))
    assert caught.value.argument == "images"
    moved = remedy.split(", or")[0].split("use ")[-1]
    right = eval(moved, {"np": np, "x": images})
    assert right.shape[0] == 40
    assert right.shape[3] in (1, 3, 4)
    dataset(data.Split(right, ROWS))


@pytest.mark.parametrize(
    "shape", [(40, 3, 3, 3), (40, 8, 8, 2), (40, 1, 1, 1), (40, 3, 9, 3), (40, 5, 4, 7)]
)
def test_images_of_unusual_shapes_are_accepted(shape):
    images = np.zeros(shape, np.uint8)
    assert dataset(data.Split(images, ROWS)).train.images.shape == shape


@pytest.mark.parametrize(
    "labels, remedy",
    [
        (np.eye(3)[ROWS], "np.argmax(y, axis=1)"),
        (np.eye(3, dtype=int)[ROWS], "np.argmax(y, axis=1)"),
        (ROWS[:, None], "y[:, 0]"),
        (ROWS.astype(np.float32), "y.astype(np.int32)"),
    ],
)
def test_the_error_for_other_labels_says_how_to_convert_them(labels, remedy):
    images = np.zeros((40, 8, 8, 1), np.uint8)
    with pytest.raises(InvalidInputError, match=re.escape(remedy)):
        dataset(data.Split(images, labels))
    right = eval(remedy, {"np": np, "y": labels})
    np.testing.assert_array_equal(dataset(data.Split(images, right)).train.labels, ROWS)


@pytest.mark.parametrize("padding, is_valid", [(0, True), (5, True), (6, False)])
def test_crop_padding_is_at_most_the_size_of_the_images(padding, is_valid):
    split = data.Split(np.zeros((40, 8, 5, 1), np.uint8), ROWS)
    settings = {"augmentation": data.Augmentation(crop_padding=padding)}
    if is_valid:
        assert dataset(split, **settings).augmentation.crop_padding == padding
        return
    with pytest.raises(InvalidInputError, match=r"at most 5, .* got 6") as caught:
        dataset(split, **settings)
    assert caught.value.argument == "crop_padding"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_error_for_a_non_finite_image_names_its_row(value):
    images = np.zeros((700, 50, 50, 1), np.float32)  # More than one chunk.
    images[650, 3, 2, 0] = value
    labels = np.zeros(700, np.int32)
    with pytest.raises(InvalidInputError, match=r"train.images .* row 650"):
        dataset(data.Split(images, labels))


def test_images_beyond_the_range_of_float32_raise():
    images = np.full((4, 6, 5, 3), 1e39)
    with pytest.raises(InvalidInputError, match="must be finite"):
        dataset(data.Split(images, LABELS))


def test_the_test_split_is_checked_too():
    with pytest.raises(InvalidInputError, match=r"test\.labels must lie"):
        dataset(data.Split(IMAGES, LABELS), data.Split(IMAGES, LABELS + 1))


@pytest.mark.parametrize("other", [IMAGES[:, :5], IMAGES.astype(np.float32)])
def test_both_splits_must_have_the_same_image_shape_and_dtype(other):
    with pytest.raises(InvalidInputError, match="must have the same"):
        dataset(data.Split(IMAGES, LABELS), data.Split(other, LABELS))


def test_class_names_must_fit_the_number_of_classes():
    with pytest.raises(InvalidInputError, match="must contain 3 names, got 2"):
        dataset(data.Split(IMAGES, LABELS), class_names=("a", "b"))


@pytest.mark.parametrize("name", ["mnist", "emnist/letters", "digits", "svhn_cropped"])
def test_characters_are_not_flipped(name):
    assert not default_augmentation(name, (28, 28, 1)).flip


@pytest.mark.parametrize("side, padding", [(32, 4), (24, 4), (12, 2), (8, 1), (4, 1)])
def test_the_default_padding_depends_on_the_image_size(side, padding):
    expected = data.Augmentation(crop_padding=padding, flip=True)
    assert default_augmentation("cifar100", (side, 2 * side, 3)) == expected


def unbalanced(make_split):
    """97, 40 and 3 rows of three classes, in no order."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [97, 40, 3]))
    images = np.arange(140, dtype=np.uint8).reshape(140, 1, 1, 1)
    return dataset(data.Split(images, labels.astype(np.int32)))


@pytest.mark.parametrize("n", [1, 2, 10, 77, 139, 140])
def test_subset_keeps_the_proportions_of_the_classes(make_split, n):
    whole = unbalanced(make_split)
    subset = data.take_subset(whole, n)
    counts = np.bincount(subset.train.labels, minlength=3)
    assert counts.sum() == n
    assert (np.abs(counts - n * np.array([97, 40, 3]) / 140) < 1).all()


def test_a_subset_contains_distinct_rows_of_the_dataset(make_split):
    whole = unbalanced(make_split)
    images, labels = data.take_subset(whole, 50).train
    rows = images.ravel()  # In `unbalanced`, an image is its row number.
    assert len(set(rows)) == 50
    np.testing.assert_array_equal(labels, whole.train.labels[rows])


def test_a_subset_depends_on_its_seed_only(make_split):
    whole = unbalanced(make_split)
    first, same, other = (data.take_subset(whole, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.train.images, same.train.images)
    assert (first.train.images != other.train.images).any()
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_a_subset_keeps_the_whole_test_split(make_split):
    whole = unbalanced(make_split)
    assert data.take_subset(whole, 50).test.images is whole.test.images


@pytest.mark.parametrize("n", [0, 141])
def test_a_subset_of_zero_or_too_many_rows_raises(make_split, n):
    with pytest.raises(InvalidInputError, match="n must be at"):
        data.take_subset(unbalanced(make_split), n)
