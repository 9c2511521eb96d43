import os

import numpy as np
import pytest
from pictures import encode
from PIL import Image

from jaxkd import InvalidInputError, data


def picture(seed, size=(20, 14)):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A dataset of two classes; its test images have different shapes."""
    sizes = [(20, 14), (12, 30), (16, 16)]
    for part in ("train", "test"):
        for kind in ("ant", "bee"):
            (tmp_path / part / kind).mkdir(parents=True)
            for i, size in enumerate(sizes):
                file = tmp_path / part / kind / f"{i}.png"
                file.write_bytes(encode(picture(i + len(kind + part), size), "PNG"))
    return tmp_path


def read(paths, shape=(8, 8, 3), **settings):
    return np.concatenate(list(data.read_pictures(paths, shape, **settings)))


@pytest.mark.parametrize("test_resize", [None, 10])
def test_pictures_are_read_as_the_test_images_of_a_dataset(
    folder, tmp_path, test_resize
):
    dataset = data.load(
        f"{folder}/", image_size=8, test_resize=test_resize, cache_dir=tmp_path / "c"
    )
    found = read(data.find_pictures([folder / "test"]), test_resize=test_resize)
    np.testing.assert_array_equal(found, dataset.test.images)


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(picture(0, (8, 8)), "PNG"))
    np.testing.assert_array_equal(read([tmp_path / "a.png"])[0], picture(0, (8, 8)))


def test_one_channel_gives_gray_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(picture(0, (8, 8)), "PNG"))
    (found,) = read([tmp_path / "a.png"], (8, 8, 1))
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    np.testing.assert_array_equal(found[..., 0], expected)


def test_transparent_pixels_get_the_background(tmp_path):
    clear = np.zeros((8, 8, 4), np.uint8)
    (tmp_path / "a.png").write_bytes(encode(clear, "PNG"))
    assert (read([tmp_path / "a.png"], background="gray") == 128).all()


def test_batches_have_the_given_size_and_the_order_of_the_files(folder):
    paths = data.find_pictures([folder / "test"])
    batches = list(data.read_pictures(paths, (8, 8, 3), batch_size=4))
    assert [len(batch) for batch in batches] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(batches), read(paths))


def test_folders_are_read_in_order_with_those_inside(folder):
    (folder / "test" / "ant" / "notes.txt").write_text("no picture")
    (folder / "test" / ".hidden.png").write_text("no picture")
    found = data.find_pictures([folder / "test" / "bee", folder / "test"])
    names = [str(path.relative_to(folder / "test")) for path in found]
    bees, ants = ([f"{x}/{i}.png" for i in range(3)] for x in ("bee", "ant"))
    assert names == bees + ants  # each once


def test_a_file_is_taken_whatever_its_name_is(tmp_path):
    (tmp_path / "picture").write_bytes(encode(picture(0), "PNG"))
    assert data.find_pictures([tmp_path / "picture"]) == [tmp_path / "picture"]


def test_all_unreadable_pictures_are_counted_and_three_named(folder):
    for i in range(3):
        (folder / "test" / "ant" / f"{i}.png").write_bytes(b"no picture")
    (folder / "test" / "bee" / "0.png").write_bytes(encode(picture(0), "PNG")[:50])
    with pytest.raises(InvalidInputError) as caught:
        read(data.find_pictures([folder / "test"]), batch_size=2)
    assert "4 of 6 pictures cannot be used" in str(caught.value)
    assert "ant/0.png is not an image" in str(caught.value)
    assert "and 1 more" in str(caught.value)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda path: None, "there is no folder or file"),
        (os.mkfifo, "it is a FIFO"),
        (os.mkdir, "there is no picture in"),
    ],
)
def test_a_path_without_a_picture_is_refused(tmp_path, make, says):
    make(tmp_path / "x")
    with pytest.raises(InvalidInputError, match=says) as caught:
        data.find_pictures([tmp_path / "x"])
    assert caught.value.argument == "images"


def test_two_channels_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="2 channels"):
        read([tmp_path / "a.png"], (8, 8, 2))


def test_an_empty_list_is_refused():
    with pytest.raises(InvalidInputError, match="no picture was given"):
        data.find_pictures([])
