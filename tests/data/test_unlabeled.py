"""Images without labels in a training set."""

import numpy as np
import pytest
from pictures import encode
from PIL import Image, ImageOps
from support import make_dataset

from jaxkd import data
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.data._assemble import Loading
from jaxkd.data._unlabeled import _read

MORE = np.full((3, 8, 8, 1), 7, np.uint8)


def write(root, count=4, size=(9, 12)):
    """Write gray images, some of them in inner folders; return their pixels."""
    images = []
    for i in range(count):
        rng = np.random.default_rng(i)
        image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
        path = root / ("inner/deep" if i % 2 else ".") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image, "PNG"))
        images.append(image)
    # Names are sorted: 0.png, 2.png, inner/deep/1.png, inner/deep/3.png.
    return [images[i] for i in (*range(0, count, 2), *range(1, count, 2))]


def fitted(images):
    return np.stack(
        [np.asarray(ImageOps.fit(x, (8, 8), Image.Resampling.BILINEAR)) for x in images]
    )[..., None]


def test_the_images_are_the_last_rows_with_the_label_minus_one():
    dataset = make_dataset()
    more = data.with_unlabeled(dataset, MORE)
    count = len(dataset.train.labels)
    np.testing.assert_array_equal(more.train.images[:count], dataset.train.images)
    np.testing.assert_array_equal(more.train.labels[:count], dataset.train.labels)
    np.testing.assert_array_equal(more.train.images[count:], MORE)
    assert (more.train.labels[count:] == -1).all()
    assert more.num_unlabeled == 3
    assert more.test is dataset.test or (more.test.images == dataset.test.images).all()


def test_the_fingerprint_depends_on_the_images():
    dataset = make_dataset()
    one, same, other = (
        data.with_unlabeled(dataset, x) for x in (MORE, +MORE, MORE + 1)
    )
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint.startswith(f"{dataset.fingerprint}, 3 unlabeled images ")
    assert len({dataset.fingerprint, one.fingerprint, other.fingerprint}) == 3


def test_a_folder_is_searched_and_resized_like_the_datasets_images(tmp_path):
    images = write(tmp_path / "more")
    dataset = make_dataset()
    more = data.with_unlabeled(dataset, tmp_path / "more", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(more.train.images[-4:], fitted(images))
    assert more.num_unlabeled == 4


def test_a_folder_that_was_moved_has_the_same_fingerprint(tmp_path):
    write(tmp_path / "more")
    load = lambda name: data.with_unlabeled(
        make_dataset(), str(tmp_path / name), cache_dir=tmp_path / "cache"
    )
    before = load("more")
    (tmp_path / "more").rename(tmp_path / "moved")
    assert load("moved").fingerprint == before.fingerprint


def test_images_of_floats_get_floats(tmp_path):
    images = write(tmp_path / "more")
    dataset = make_dataset()
    splits = [
        data.Split((s.images / np.float32(255)), s.labels)
        for s in (dataset.train, dataset.test)
    ]
    floats = data.ImageDataset("floats", *splits, dataset.num_classes)
    more = data.with_unlabeled(floats, tmp_path / "more", cache_dir=tmp_path / "cache")
    assert more.train.images.dtype == np.float32
    expected = fitted(images) / np.float32(255)
    np.testing.assert_array_equal(more.train.images[-4:], expected)


def test_a_streamed_dataset_has_the_same_images_and_statistics(tmp_path):
    write(tmp_path / "more")
    for part in ("train", "test"):
        write(tmp_path / "set" / part / "cat", size=(8, 8))
    settings = {"cache_dir": tmp_path / "cache", "image_size": 8}
    both = [
        data.with_unlabeled(
            data.load(str(tmp_path / "set"), stream=stream, **settings),
            tmp_path / "more",
            cache_dir=tmp_path / "cache",
        )
        for stream in (False, True)
    ]
    rows = np.array([5, 0, 7, 3, 4])
    decoded, streamed = (x.train.images for x in both)
    assert isinstance(streamed, data.Streamed)
    assert streamed.shape == decoded.shape == (8, 8, 8, 1)
    np.testing.assert_array_equal(streamed[rows], decoded[rows])
    assert both[0].fingerprint == both[1].fingerprint
    assert streamed.statistics is not None
    for one, other in zip(
        *map(data.channel_statistics, (decoded, streamed)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert data.value_range(streamed) == data.value_range(decoded)


def test_linked_images_count_once(tmp_path):
    write(tmp_path / "more")
    (tmp_path / "more" / "again.png").symlink_to(tmp_path / "more" / "0.png")
    more = data.with_unlabeled(
        make_dataset(), tmp_path / "more", cache_dir=tmp_path / "cache"
    )
    assert more.num_unlabeled == 4


@pytest.mark.parametrize(
    "images, says",
    [
        (MORE[:, :4], r"images must be of the shape of those of .*8, 8, 1"),
        (MORE[:0], "images must be of the shape"),
        (MORE.astype(np.float32), "images must be uint8"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, says):
    with pytest.raises(InvalidInputError, match=says):
        data.with_unlabeled(make_dataset(), images)


def test_images_of_another_type_are_refused():
    with pytest.raises(InvalidTypeError, match=r"images must be a folder.* got list"):
        _read([[1]], make_dataset(), Loading())


def test_a_folder_without_images_and_a_broken_image_are_refused(tmp_path):
    add = lambda name: data.with_unlabeled(
        make_dataset(), tmp_path / name, cache_dir=tmp_path / "cache"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="contains no images") as error:
        add("empty")
    assert error.value.argument == "unlabeled"
    write(tmp_path / "more")
    (tmp_path / "more" / "bad.png").write_text("no image")
    with pytest.raises(InvalidInputError, match=r"bad\.png is not an image") as error:
        add("more")
    assert error.value.argument == "unlabeled"


def test_the_label_minus_one_is_refused_where_nothing_is_added():
    dataset = make_dataset()
    images, labels = dataset.train
    wrong = data.Split(images, np.where(np.arange(len(labels)) == 2, -1, labels))
    with pytest.raises(InvalidInputError, match=r"train\.labels must lie in \[0, 3\]"):
        data.ImageDataset("mine", wrong, dataset.test, 4)
    with pytest.raises(InvalidInputError, match=r"test\.labels must lie in \[0, 3\]"):
        data.ImageDataset("mine", dataset.train, wrong, 4)
    with pytest.raises(
        InvalidInputError, match=r"must be -1 in 2 rows.* got 1 of them"
    ):
        data.ImageDataset("mine", wrong, dataset.test, 4, num_unlabeled=2)
    lower = data.Split(images, np.where(np.arange(len(labels)) == 3, -2, wrong.labels))
    with pytest.raises(InvalidInputError, match="got -2 to 3"):
        data.ImageDataset("mine", lower, dataset.test, 4, num_unlabeled=1)


def test_a_subset_is_taken_before_images_are_added():
    more = data.with_unlabeled(make_dataset(), MORE)
    with pytest.raises(InvalidInputError, match="take the subset first"):
        data.take_subset(more, 8)
    with pytest.raises(InvalidInputError, match="add all of them at once"):
        data.with_unlabeled(more, MORE)
