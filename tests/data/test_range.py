"""Ranges of image values."""

import re

import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._range import checked_value_range, doubts_about

BYTES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 1), dtype=np.uint8)
BYTES[0, 0, :2, 0] = 0, 255
LABELS = np.array([0, 1, 2, 0, 1, 2])
UNIT = (BYTES / 255).astype(np.float32)

# Images in another range, and what the message calls it and its limits.
OTHER_RANGES = {
    "float 0 to 255": (BYTES.astype(np.float32), (0, 255)),
    "float -1 to 1": (2 * UNIT - 1, (-1, 1)),
    "float -0.5 to 0.5": (UNIT - 0.5, (-0.5, 0.5)),
    "float 0 to 16": (16 * UNIT, (0, 16)),
    "float 0 to 65535": (65535 * UNIT, (0, 65535)),
    "float -128 to 127": (BYTES.astype(np.float32) - 128, (-128, 127)),
    "float64 0 to 255": (BYTES.astype(np.float64), (0, 255)),
    "float16 -1 to 1": ((2 * UNIT - 1).astype(np.float16), (-1, 1)),
    "uint16": (BYTES.astype(np.uint16) * 257, (0, 65535)),
    "uint16 of 12 bits": ((UNIT * 4095).round().astype(np.uint16), (0, 4095)),
    "int8": ((BYTES.astype(np.int16) - 128).astype(np.int8), (-128, 127)),
    "int64": (BYTES.astype(np.int64), (0, 255)),
    "uint32": (BYTES.astype(np.uint32) * 257, (0, 65535)),
    "bool": (BYTES > 99, (0, 1)),
}


def save(tmp_path, images, test=None):
    path = tmp_path / "mine.npz"
    test = images if test is None else test
    np.savez(path, x_train=images, y_train=LABELS, x_test=test, y_test=LABELS)
    return str(path)


@pytest.mark.parametrize("kind", OTHER_RANGES)
def test_another_range_is_refused_with_the_option_that_maps_it(tmp_path, kind):
    images, (low, high) = OTHER_RANGES[kind]
    remedy = rf"x_train must .*--value-range {low:g} {high:g}\)"
    with pytest.raises(InvalidInputError, match=remedy):
        data.load(save(tmp_path, images))


@pytest.mark.parametrize("kind", OTHER_RANGES)
def test_value_range_maps_images_to_0_to_1(tmp_path, kind):
    images, (low, high) = OTHER_RANGES[kind]
    dataset = data.load(save(tmp_path, images), value_range=(low, high))
    expected = (images.astype(np.float64) - low) / (high - low)
    assert dataset.train.images.dtype == np.float32
    np.testing.assert_allclose(dataset.train.images, expected, atol=1e-7)
    assert dataset.fingerprint.endswith(f", values {low:g} to {high:g}")


def test_uint8_images_of_another_white_are_mapped(tmp_path):
    images = np.minimum(BYTES, 16)
    mapped = data.load(save(tmp_path, images), value_range=(0, 16)).train.images
    np.testing.assert_allclose(mapped, images / 16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_images_in_0_to_1_are_not_changed(tmp_path, dtype):
    images = UNIT.astype(dtype)
    kept = data.load(save(tmp_path, images)).train.images
    np.testing.assert_array_equal(kept, images.astype(np.float32))


@pytest.mark.parametrize("low, high", [(-0.001, 1.0), (0.0, 1.001)])
def test_the_overshoot_of_resampling_is_not_refused(low, high):
    images = low + (high - low) * UNIT
    split = data.Split(images, LABELS)
    kept = data.ImageDataset("mine", split, split, num_classes=3).train.images
    np.testing.assert_array_equal(kept, images)


@pytest.mark.parametrize("part", ["train", "test"])
def test_standardized_images_are_refused(part):
    images = (UNIT - UNIT.mean()) / UNIT.std()
    good, bad = (data.Split(x, LABELS) for x in (UNIT, images))
    splits = {"train": good, "test": good} | {part: bad}
    with pytest.raises(
        InvalidInputError, match=rf"{part}\.images .*standardized images: give them as"
    ):
        data.ImageDataset("mine", **splits, num_classes=3)


def test_the_error_names_the_range_found():
    split = data.Split(1000 * UNIT - 300, LABELS)
    with pytest.raises(InvalidInputError, match=r"lie in -300 to 700: .*LOW HIGH"):
        data.ImageDataset("mine", split, split, num_classes=3)


@pytest.mark.parametrize(
    "images, limits",
    [(BYTES, (0, 100)), (2 * UNIT - 1, (0, 1)), (UNIT * np.nan, (0, 1))],
)
def test_images_outside_of_value_range_are_refused(tmp_path, images, limits):
    with pytest.raises(InvalidInputError, match="x_train must lie in 0 to") as caught:
        data.load(save(tmp_path, images), value_range=limits)
    assert caught.value.argument == "value_range"


@pytest.mark.parametrize(
    "limits", [(255, 0), (1, 1), (0, np.inf), (np.nan, 1), (0,), 255, ("a", "b")]
)
def test_value_range_must_be_two_increasing_finite_numbers(limits):
    with pytest.raises((ValueError, TypeError), match="value_range must be two") as got:
        checked_value_range(limits)
    assert got.value.argument == "value_range"


@pytest.mark.parametrize("name", ["digits", "./folder", "mnist"])
def test_value_range_is_refused_for_other_sources(name):
    with pytest.raises(InvalidInputError, match=r"value_range is .*npz files only"):
        data.load(name, value_range=(0, 255))


TWO_CHANNELS = np.concatenate([BYTES // 2 + 9, BYTES // 3], -1)


@pytest.mark.parametrize(
    "images", [BYTES, UNIT, TWO_CHANNELS, data.Streamed(TWO_CHANNELS)]
)
def test_value_range_is_the_minimum_and_the_maximum(images):
    rows = images[1:]
    assert data.value_range(rows) == (rows.min(), rows.max())
    assert data.value_range(images) == (images[:].min(), images[:].max())


def test_the_range_of_many_rows_is_that_of_all_chunks():
    images = np.full((3000, 20, 20, 1), 7, np.uint8)  # More than one chunk.
    images[2999, 3, 4, 0] = 9
    assert data.value_range(images) == (7, 9)


@pytest.mark.parametrize(
    "images, says",
    [
        (0 * BYTES, "all pixels of all images are 0:"),
        (0 * UNIT + np.float32(0.5), "all pixels of all images are 0.5:"),
        (BYTES // 255, r"nearly black\. If 1 is white, .*--value-range 0 1"),
        (np.minimum(BYTES, 16), r"If 16 is white, .*--value-range 0 16"),
        (UNIT / 255, "divided by 255 twice, multiply them by 255"),
        (np.concatenate([BYTES, 0 * BYTES + 255], -1), "channel 1 is 255 in all"),
    ],
)
def test_doubtful_values_are_described(images, says):
    (doubt,) = doubts_about(images)
    assert re.search(says, doubt)


@pytest.mark.parametrize("images", [BYTES, UNIT, BYTES // 4, data.Streamed(BYTES)])
def test_usual_images_raise_no_doubts(images):
    assert doubts_about(images) == ()
