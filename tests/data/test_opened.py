"""Open encoded images: large ones, upright sizes, several frames."""

import contextlib
import warnings

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data import _decode
from jaxkd.data._picture import opened, upright_size

PIXELS = np.zeros((6, 8, 3), np.uint8)


@pytest.mark.parametrize("broken", [False, True])
def test_several_frames_are_said_once_for_a_dataset(tmp_path, capfd, broken):
    images = [Image.new("RGB", (3, 2), color) for color in ("red", "blue")]
    encoded = encode(images[0], "TIFF", save_all=True, append_images=images[1:])
    root = tmp_path / "set"
    for name in ("train/cat/0", "train/cat/1", "test/cat/0", "test/cat/1"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.tif").write_bytes(encoded)
    if broken:
        (root / "test/cat/1.tif").write_bytes(b"")
    raises = pytest.raises(InvalidInputError, match="1 of 4 images")
    with raises if broken else contextlib.nullcontext():
        data.load(str(root), cache_dir=tmp_path / "cache")
    assert capfd.readouterr().err.count("several frames") == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_described_size_is_that_of_the_loaded_image(orientation, form):
    exif = Image.Exif()
    exif[274] = orientation
    with opened(encode(PIXELS, form, exif=exif)) as image:
        size = upright_size(image)
    assert size == ((8, 6) if orientation > 4 else (6, 8))


@pytest.mark.parametrize("action, count", [(None, 0), ("always", 1)])
def test_large_images_are_opened_without_a_warning_unless_a_filter_asks_for_it(
    monkeypatch, action, count
):
    encoded = encode(PIXELS, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 47)
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        if action:
            warnings.simplefilter(action, Image.DecompressionBombWarning)
        opened(encoded).close()
    assert len(caught) == count


@pytest.mark.parametrize("pixels", [23, 1])
def test_images_of_more_than_twice_the_limit_of_pixels_are_refused(
    tmp_path, monkeypatch, pixels
):
    for name in ("train", "test"):
        (tmp_path / name / "cat").mkdir(parents=True)
        (tmp_path / name / "cat/0.png").write_bytes(encode(PIXELS, "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with pytest.raises(InvalidInputError, match="exceeds limit of"):
        data.load(str(tmp_path), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("stream", [False, True])
def test_images_decoded_one_at_a_time_are_the_same(tmp_path, monkeypatch, stream):
    for name in ("train/cat", "test/cat"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((6, 8, 3), 50 * i, np.uint8)
            (tmp_path / f"set/{name}/{i}.png").write_bytes(encode(pixels, "PNG"))
    monkeypatch.setattr(_decode, "_BYTES_AT_ONCE", 1)
    loaded = data.load(
        str(tmp_path / "set"), cache_dir=tmp_path / "cache", stream=stream
    )
    assert loaded.train.images[:][:, 0, 0, 0].tolist() == [0, 50, 100]


@pytest.mark.parametrize("size", [8193, 100_000, 2**30])
def test_sizes_that_no_memory_holds_are_refused(tmp_path, size):
    with pytest.raises(InvalidInputError, match="image_size must be at most 8192"):
        data.load(str(tmp_path), image_size=size)
