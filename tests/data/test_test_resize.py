"""Test images that are resized and cropped as torchvision does with Pillow's images."""

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data import _picture
from jaxkd.data._decode import DecodedRows
from jaxkd.data._picture import resized

# Height and width; odd and even, both orientations, smaller and larger than the result.
SIZES = [(31, 47), (47, 31), (30, 30), (9, 14), (14, 9), (12, 13), (100, 12), (5, 7)]


def random_image(height, width, channels=3):
    rng = np.random.default_rng(height * 1000 + width)
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])


def by_torchvisions_rule(image, resize, crop):
    """Apply Resize(resize) and CenterCrop(crop) with Pillow's own operations."""
    w, h = image.size
    if w <= h:
        new_w, new_h = resize, int(resize * h / w)
    else:
        new_w, new_h = int(resize * w / h), resize
    image = image.resize((new_w, new_h), Image.Resampling.BILINEAR)
    top = round((new_h - crop) / 2.0)
    left = round((new_w - crop) / 2.0)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("resize, crop", [(12, 9), (12, 10), (15, 15), (9, 4)])
@pytest.mark.parametrize("size", SIZES)
def test_each_pixel_is_that_of_pillows_resize_and_crop(size, resize, crop, channels):
    image = random_image(*size, channels)
    actual = np.asarray(resized(image, (crop, crop), resize))
    np.testing.assert_array_equal(actual, by_torchvisions_rule(image, resize, crop))


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "set" / part / "cat").mkdir(parents=True)
        for i, size in enumerate(SIZES):
            path = tmp_path / "set" / part / "cat" / f"{i}.png"
            path.write_bytes(encode(random_image(*size), "PNG"))
    return str(tmp_path / "set")


@pytest.mark.parametrize("stream", [False, True])
def test_test_images_are_resized_and_training_images_are_not(tmp_path, folder, stream):
    settings = {"cache_dir": tmp_path / "cache", "image_size": 9, "stream": stream}
    plain = data.load(folder, **settings)
    dataset = data.load(folder, **settings, test_resize=12)
    expected = [by_torchvisions_rule(random_image(*size), 12, 9) for size in SIZES]
    np.testing.assert_array_equal(dataset.test.images[:], np.stack(expected))
    np.testing.assert_array_equal(dataset.train.images[:], plain.train.images[:])
    assert (dataset.test.images[:] != plain.test.images[:]).any()
    assert dataset.fingerprint == f"{plain.fingerprint}, test images resized to 12"


def test_an_image_of_the_crops_size_is_resized_too():
    image = random_image(9, 9)
    rows = DecodedRows(_One(encode(image, "PNG")), 3, (9, 9), shorter_side=12)
    actual, _ = rows.read([0])
    np.testing.assert_array_equal(actual[0], by_torchvisions_rule(image, 12, 9))


class _One:
    def __init__(self, encoded):
        self._encoded = encoded

    def __len__(self):
        return 1

    def read(self, rows):
        return [(self._encoded, 0) for _ in rows]

    def where(self, row):
        return f"row {row}"


def test_an_image_that_would_become_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(_picture, "_MOST_PIXELS", 12 * 30)
    image = encode(random_image(30, 10), "PNG")
    rows = DecodedRows(_One(image), 3, (9, 9), shorter_side=12)
    with pytest.raises(InvalidInputError, match=r"10 by 30 pixels, .* 36 by 12 when"):
        rows.read([0])


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"test_resize": 12}, "without image_size"),
        ({"test_resize": 8, "image_size": 9}, "test_resize must be at least 9"),
        ({"test_resize": 0, "image_size": 9}, "test_resize must be at least 1"),
        ({"test_resize": 9000, "image_size": 9}, "at most 8192, got 9000"),
    ],
)
def test_lengths_that_leave_nothing_to_crop_are_refused(folder, settings, says):
    with pytest.raises(InvalidInputError, match=says) as error:
        data.load(folder, **settings)
    assert error.value.argument == "test_resize"
