import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 3, 1), dtype=np.uint8)
ROWS = np.array([[3, 1, 9, 0], [2, 2, 5, 7], [8, 4, 6, 3]])


@pytest.fixture
def images():
    return data.Streamed(IMAGES)


@pytest.fixture
def read(tmp_path):
    def read(name="tiny", **settings):
        return data.load(
            name,
            data_dir=tmp_path / "tfds",
            cache_dir=tmp_path / "cache",
            stream=True,
            **settings,
        )

    return read


@pytest.fixture
def prepared(tmp_path, prepare_tiny, make_split):
    """Prepares a small dataset; returns its arrays."""
    splits = {"train": make_split(7), "test": make_split(4, seed=1)}
    prepare_tiny(tmp_path / "tfds", splits)
    return splits


def test_rows_are_indexed_like_those_of_an_array(images):
    assert (images.shape, images.dtype, len(images)) == (IMAGES.shape, np.uint8, 10)
    np.testing.assert_array_equal(images[2:7], IMAGES[2:7])
    np.testing.assert_array_equal(images[np.array([5, 1])], IMAGES[[5, 1]])


def test_taken_rows_have_their_own_row_numbers(images):
    taken = images.take(np.array([9, 2, 4])).take(np.array([2, 0]))
    assert taken.shape == (2, 4, 3, 1)
    np.testing.assert_array_equal(taken[0:2], IMAGES[[4, 9]])
    ((batch, rows),) = taken.batches(np.array([[1, 0]]))
    np.testing.assert_array_equal(batch, IMAGES[[9, 4]])
    np.testing.assert_array_equal(rows, [1, 0])


def test_batches_are_read_in_the_given_order(images):
    batches = list(images.batches(ROWS))
    np.testing.assert_array_equal([rows for _, rows in batches], ROWS)
    np.testing.assert_array_equal([own for own, _ in batches], IMAGES[ROWS])
    assert batches[0][1].dtype == np.int32


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_reading_continues_from_a_state_of_the_iterator(images, workers):
    first = images.batches(ROWS, workers=workers)
    next(first)
    state = first.get_state()
    first.close()
    second = images.batches(ROWS, workers=workers)
    second.set_state(state)
    np.testing.assert_array_equal([rows for _, rows in second], ROWS[1:])
    second.close()


def test_streamed_images_equal_decoded_images(tmp_path, read, prepared):
    dataset = read()
    whole = data.load(
        "tiny", data_dir=tmp_path / "tfds", cache_dir=tmp_path / "decoded"
    )
    for part in ("train", "test"):
        ours, theirs = getattr(dataset, part), getattr(whole, part)
        assert isinstance(ours.images, data.Streamed)
        np.testing.assert_array_equal(ours.images[:], theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    for name in ("name", "class_names", "augmentation", "fingerprint"):
        assert getattr(dataset, name) == getattr(whole, name)
    for ours, theirs in zip(
        data.channel_statistics(dataset.train.images),
        data.channel_statistics(whole.train.images),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_only_the_first_load_reads_all_images(read, prepared, monkeypatch):
    read()
    monkeypatch.setattr("jaxkd.data._assemble._labels_and_histogram", None)
    dataset = read()
    np.testing.assert_array_equal(dataset.train.labels, prepared["train"].labels)
    monkeypatch.setattr("jaxkd.data._decode.DecodedRows.read", None)
    data.channel_statistics(dataset.train.images)


def test_no_decoded_images_are_stored(tmp_path, read, prepared):
    read()
    kept = {path.name for path in (tmp_path / "cache").rglob("*.npy")}
    parts = ("train", "test")
    assert kept == {f"{p}-{n}.npy" for p in parts for n in ("labels", "histogram")}


def test_a_subset_is_streamed_and_has_its_own_statistics(read, prepared):
    subset = data.take_subset(read(), 4)
    whole = data.ImageDataset("x", prepared["train"], prepared["test"], 3)
    expected = data.take_subset(whole, 4)
    np.testing.assert_array_equal(subset.train.images[:], expected.train.images)
    np.testing.assert_array_equal(
        data.channel_statistics(subset.train.images).mean,
        data.channel_statistics(expected.train.images).mean,
    )


def test_an_unreadable_image_raises_when_the_dataset_is_loaded(
    tmp_path, read, prepare_tiny, make_split, encode_png
):
    split = make_split(5)
    split.images[:, 0, 0, 0] = [1, 1, 1, 0, 1]
    prepare_tiny(
        tmp_path / "tfds",
        {"train": split, "test": make_split(4)},
        encode=lambda x: encode_png(x)[: None if x[0, 0, 0] else 40],
    )
    with pytest.raises(InvalidInputError, match="row 3 of the split 'train'"):
        read()


def test_images_of_different_sizes_are_streamed_at_the_same_size(
    tmp_path, read, prepare_tiny, make_split
):
    images = [*make_split(6).images, np.zeros((9, 9, 3), np.uint8)]
    splits = {"train": (images, np.arange(7) % 3), "test": make_split(4)}
    prepare_tiny(tmp_path / "tfds", splits)
    with pytest.raises(InvalidInputError, match=r"one size: row 6 .*--image-size"):
        read()
    dataset = read(image_size=5)
    assert dataset.image_shape == (5, 5, 3)
    assert (dataset.train.images[6:] == 0).all()
    assert dataset.fingerprint == "tfds:tiny:1.0.0, size 5"


def test_streaming_a_dataset_in_memory_raises():
    with pytest.raises(InvalidInputError, match="digits is held in memory"):
        data.load("digits", stream=True)
    with pytest.raises(InvalidInputError, match="arrays of shape"):
        data.load("digits", image_size=8)
    with pytest.raises(InvalidInputError, match="without stream"):
        data.load("tiny", workers=2)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 3)), np.zeros((0, 3, 3, 1))])
def test_streaming_other_dtypes_raises(array):
    with pytest.raises(InvalidInputError, match="source must be"):
        data.Streamed(array)


class OtherSource:
    """A source that does not return what it must."""

    shape = (10, 4, 3, 1)

    def __init__(self, change):
        self._change = change

    def read(self, rows):
        return self._change(IMAGES[np.asarray(rows)]), None


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda x: (x / 255).astype(np.float32), r"got float32 \(4, 4, 3, 1\)"),
        (lambda x: x.astype(np.int64), "got int64"),
        (lambda x: x.transpose(0, 3, 1, 2), r"got uint8 \(4, 1, 4, 3\)"),
        (lambda x: x[1:], r"got uint8 \(3, 4, 3, 1\)"),
    ],
)
def test_sources_must_return_images_of_their_shape(change, says):
    images = data.Streamed(OtherSource(change))
    with pytest.raises(InvalidInputError, match=rf"must return uint8 .*{says}"):
        images[:4]
    with pytest.raises(InvalidInputError, match=rf"must return uint8 .*{says}"):
        list(images.batches(ROWS))
