"""Validation images that are taken out of the training set."""

import dataclasses

import numpy as np
import pytest
from support import make_dataset

from jaxkd import data


def with_labels(labels, classes):
    """A dataset with these training labels, whose images tell their row."""
    labels = np.asarray(labels)
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    images[:] = np.arange(len(labels))[:, None, None, None]
    split = data.Split(images, labels)
    return data.ImageDataset("tiny", split, split, classes)


def streamed(dataset):
    images, labels = dataset.train
    source = data.Streamed(images)
    test = data.Split(data.Streamed(dataset.test.images), dataset.test.labels)
    return dataclasses.replace(dataset, train=data.Split(source, labels), test=test)


@pytest.mark.parametrize("convert", [lambda x: x, streamed])
def test_each_row_is_in_one_of_both_parts_with_its_label(convert):
    labels = np.arange(60) % 3
    dataset = data.hold_out(convert(with_labels(labels, 3)), 0.2)
    parts = dataset.train, dataset.validation
    rows = [np.asarray(part.images[:])[:, 0, 0, 0] for part in parts]
    assert sorted(np.concatenate(rows)) == list(range(60))
    for split, part in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(split.labels, labels[part])
        assert list(part) == sorted(part)


def test_each_class_gives_its_share():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    validation = data.hold_out(with_labels(labels, 3), 0.1).validation
    np.testing.assert_array_equal(np.bincount(validation.labels), [5, 3, 2])


def test_the_seed_chooses_the_rows_and_is_part_of_the_fingerprint():
    dataset = make_dataset()
    one, same, other = (data.hold_out(dataset, 0.2, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.validation.images, same.validation.images)
    assert one.fingerprint == same.fingerprint == "test, 8 of 40 rows held out, seed 0"
    assert np.any(one.validation.images != other.validation.images)
    assert one.fingerprint != other.fingerprint


def test_a_dataset_in_memory_of_its_own_has_another_checksum_with_validation():
    split = make_dataset().train
    plain = data.ImageDataset("mine", split, split, 4)
    both = data.ImageDataset("mine", split, split, 4, validation=split)
    assert plain.fingerprint != both.fingerprint


def test_a_class_keeps_its_last_training_image_and_is_named():
    labels = [0] * 10 + [1]
    dataset = data.hold_out(with_labels(labels, 2), 0.5)
    assert np.bincount(dataset.train.labels)[1] == 1
    (doubt,) = dataset.doubts
    assert doubt.startswith("1 of 2 classes of tiny have too few training images")
    assert doubt.endswith("'1'")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_a_fraction_that_leaves_no_images_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1") as caught:
        data.hold_out(make_dataset(), fraction)
    assert caught.value.argument == "fraction"


def test_a_fraction_too_small_for_every_class_is_refused():
    with pytest.raises(ValueError, match="no class of quadrants would have"):
        data.hold_out(make_dataset(), 0.001)


def test_images_are_held_out_once():
    dataset = data.hold_out(make_dataset(), 0.2)
    with pytest.raises(ValueError, match="has 8 images for validation already"):
        data.hold_out(dataset, 0.2)


def test_validation_images_must_be_like_training_images():
    dataset = make_dataset()
    other = data.Split(np.zeros((2, 9, 9, 1), np.uint8), np.array([0, 1]))
    with pytest.raises(ValueError, match="training and validation images") as caught:
        dataclasses.replace(dataset, validation=other)
    assert caught.value.argument == "validation"
