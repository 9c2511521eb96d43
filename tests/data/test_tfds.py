import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError


@pytest.fixture
def splits(make_split):
    return {"train": make_split(7), "test": make_split(4, seed=1)}


@pytest.fixture
def load(tmp_path):
    def load(name="tiny"):
        return data.load(name, data_dir=tmp_path / "tfds", cache_dir=tmp_path / "cache")

    return load


@pytest.fixture
def root(tmp_path):
    return tmp_path / "tfds"


def cached(tmp_path):
    return list((tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_prepared_dataset_is_loaded(root, load, prepare_tiny, make_split, channels):
    splits = {
        "train": make_split(7, (6, 5, channels)),
        "test": make_split(4, (6, 5, channels)),
    }
    prepare_tiny(root, splits, channels=channels)
    dataset = load()
    for part, (images, labels) in splits.items():
        np.testing.assert_array_equal(getattr(dataset, part).images, images)
        np.testing.assert_array_equal(getattr(dataset, part).labels, labels)
    assert dataset.class_names == ("cat", "dog", "owl")
    assert dataset.fingerprint == "tfds:tiny:1.0.0"
    assert dataset.augmentation == data.Augmentation(crop_padding=1, flip=True)


def test_images_are_read_only_memory_maps(root, load, prepare_tiny, splits):
    prepare_tiny(root, splits)
    images = load().train.images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable


def test_rows_keep_their_order_over_many_chunks(
    root, load, prepare_tiny, make_split, monkeypatch
):
    monkeypatch.setattr("jaxkd.data._decode._ROWS_AT_ONCE", 3)
    splits = {"train": make_split(11), "test": make_split(4)}
    prepare_tiny(root, splits)
    np.testing.assert_array_equal(load().train.images, splits["train"].images)
    np.testing.assert_array_equal(load().train.labels, splits["train"].labels)


def test_the_second_load_neither_decodes_nor_imports_tfds(
    tmp_path, root, load, prepare_tiny, splits
):
    prepare_tiny(root, splits)
    load()
    code = (
        "import sys; from jaxkd import data; "
        f"data.load('tiny', data_dir={str(root)!r}, "
        f"cache_dir={str(tmp_path / 'cache')!r}); "
        "sys.exit('tensorflow_datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_validation_is_used_if_there_is_no_test_split(root, load, prepare_tiny, splits):
    splits["validation"] = splits.pop("test")
    prepare_tiny(root, splits)
    np.testing.assert_array_equal(load().test.images, splits["validation"].images)


def test_the_newest_version_is_loaded_by_default(root, load, prepare_tiny, make_split):
    for seed, version in enumerate(["2.0.0", "10.0.0", "9.0.0"]):
        splits = {"train": make_split(5, seed=seed), "test": make_split(4)}
        prepare_tiny(root, splits, version=version)
    assert load().fingerprint == "tfds:tiny:10.0.0"
    np.testing.assert_array_equal(
        load("tiny:2.0.0").train.images, make_split(5, seed=0).images
    )


def test_configurations_are_distinguished(root, load, prepare_tiny, make_split):
    for seed, config in enumerate(["red", "blue"]):
        splits = {"train": make_split(5, seed=seed), "test": make_split(4)}
        prepare_tiny(root, splits, config=config)
    blue = load("tiny/blue")
    assert blue.fingerprint == "tfds:tiny/blue:1.0.0"
    np.testing.assert_array_equal(blue.train.images, make_split(5, seed=1).images)
    with pytest.raises(InvalidInputError, match="choose tiny/blue or tiny/red"):
        load()


def test_the_only_configuration_needs_no_name(root, load, prepare_tiny, splits):
    prepare_tiny(root, splits, config="red")
    assert load().fingerprint == "tfds:tiny/red:1.0.0"


def test_a_dataset_that_is_prepared_again_is_decoded_again(
    root, load, prepare_tiny, make_split
):
    folder = prepare_tiny(root, {"train": make_split(5), "test": make_split(4)})
    load()
    folder.rename(root / "old")
    prepare_tiny(root, {"train": make_split(6), "test": make_split(4)})
    assert len(load().train.labels) == 6


def test_a_failure_while_decoding_leaves_no_cache(
    tmp_path, root, load, prepare_tiny, splits, encode_png, monkeypatch
):
    monkeypatch.setattr("jaxkd.data._decode._ROWS_AT_ONCE", 2)

    def broken_at_first_pixel_zero(pixels):
        return encode_png(pixels)[: 40 if pixels[0, 0, 0] == 0 else None]

    splits["train"].images[:, 0, 0, 0] = [1, 1, 1, 1, 1, 0, 1]
    prepare_tiny(root, splits, encode=broken_at_first_pixel_zero)
    with pytest.raises(InvalidInputError, match="row 5 of the split 'train'"):
        load()
    assert not any(path.is_file() for path in cached(tmp_path))


def test_a_damaged_cache_raises(tmp_path, root, load, prepare_tiny, splits):
    prepare_tiny(root, splits)
    load()
    (path,) = (tmp_path / "cache").rglob("train-images.npy")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InvalidInputError, match=r"train-images\.npy is damaged"):
        load()


def test_images_of_different_sizes_raise(root, load, prepare_tiny, splits):
    images = [*splits["train"].images[:6], np.zeros((9, 9, 3), np.uint8)]
    prepare_tiny(root, splits | {"train": (images, splits["train"].labels)})
    with pytest.raises(InvalidInputError, match=r"one size: row 6 .* \(9, 9, 3\)"):
        load()


def test_labels_out_of_range_raise(root, load, prepare_tiny, splits):
    images, labels = splits["test"]
    prepare_tiny(root, splits | {"test": (images, labels - 1)})
    with pytest.raises(InvalidInputError, match=r"2 of 4 rows have no label.*'test'"):
        load()


def test_a_missing_test_split_raises(root, load, prepare_tiny, splits):
    del splits["test"]
    prepare_tiny(root, splits)
    with pytest.raises(InvalidInputError, match="its splits are train"):
        load()


def test_another_file_format_raises(root, load, prepare_tiny, splits):
    prepare_tiny(root, splits, file_format="tfrecord")
    with pytest.raises(InvalidInputError, match=r"prepared as tfrecord.*--prepare"):
        load()


def test_unreadable_dataset_info_raises(root, load, prepare_tiny, splits):
    folder = prepare_tiny(root, splits)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"cannot read .*dataset_info\.json"):
        load()


def test_the_error_for_an_unprepared_dataset_says_how_to_prepare_it(load):
    with pytest.raises(InvalidInputError, match="jaxkd data cifar100 --prepare"):
        load("cifar100")


@pytest.mark.parametrize("name", ["cifar-100", "digit", "tinny", ""])
def test_an_unknown_name_suggests_the_nearest(root, load, prepare_tiny, splits, name):
    prepare_tiny(root, splits)
    with pytest.raises(InvalidInputError, match=r"unknown dataset.*(did you|known)"):
        load(name)


def test_the_default_folder_is_that_of_the_environment_variable(
    tmp_path, root, prepare_tiny, splits, monkeypatch
):
    prepare_tiny(root, splits)
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    monkeypatch.setenv("JAXKD_CACHE_DIR", str(tmp_path / "cache"))
    assert data.load("tiny").fingerprint == "tfds:tiny:1.0.0"
    assert cached(tmp_path)


def test_prepare_returns_a_folder_that_is_already_prepared(root, prepare_tiny, splits):
    folder = prepare_tiny(root, splits)
    assert data.prepare("tiny", root) == folder


def test_prepare_without_tensorflow_names_the_extra(root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"pip install .\.\[prepare\]"):
        data.prepare("cifar100", root)


def test_prepare_of_an_unknown_name_suggests_the_nearest(root):
    with pytest.raises(InvalidInputError, match="did you mean 'cifar100'"):
        data.prepare("cifar-100", root)


def test_prepare_writes_array_record(root, monkeypatch):
    import tensorflow_datasets as tfds

    calls = []

    class Builder:
        data_path = str(root / "cifar100" / "3.0.2")

        def download_and_prepare(self):
            calls.append("prepared")

    def builder(name, **settings):
        calls.append((name, settings))
        return Builder()

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds, "builder", builder)
    assert data.prepare("cifar100", root) == root / "cifar100" / "3.0.2"
    settings = {"data_dir": root, "file_format": "array_record"}
    assert calls == [("cifar100", settings), "prepared"]


@pytest.mark.slow
@pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ,
    reason="needs prepared data: set TFDS_DATA_DIR to a folder with fashion_mnist",
)
def test_fashion_mnist_is_the_published_dataset(tmp_path):
    dataset = data.load("fashion_mnist", cache_dir=tmp_path)
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert (np.bincount(dataset.train.labels) == 6000).all()
    assert (np.bincount(dataset.test.labels) == 1000).all()
    statistics = data.channel_statistics(dataset.train.images)
    assert statistics.mean == pytest.approx(0.2860, abs=1e-4)  # Widely quoted.
    assert statistics.std == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "train, test",
    [
        ("train[:50%]", "train[50%:]"),
        ("train[2:5]", "train[-2:]"),
        ("train+test[:1]", "test[1:]"),
    ],
)
def test_slices_have_the_rows_that_tfds_gives(
    tmp_path, root, prepare_tiny, splits, train, test, stream
):
    import tensorflow_datasets as tfds

    folder = prepare_tiny(root, splits)
    dataset = data.load(
        "tiny",
        data_dir=root,
        cache_dir=tmp_path / "cache",
        train_split=train,
        test_split=test,
        stream=stream,
    )
    builder = tfds.builder_from_directory(folder)
    for split, specification in ((dataset.train, train), (dataset.test, test)):
        # TFDS joins splits only in its tf.data pipelines.
        examples = [
            example
            for part in specification.split("+")
            for example in builder.as_data_source(part)
        ]
        np.testing.assert_array_equal(split.images[:], [x["image"] for x in examples])
        np.testing.assert_array_equal(split.labels, [x["label"] for x in examples])


@pytest.mark.parametrize("stream", [False, True])
def test_validation_replaces_a_test_split_without_labels(
    root, tmp_path, prepare_tiny, splits, make_split, stream, monkeypatch
):
    splits["validation"] = splits["test"]
    images, labels = make_split(5, seed=2)
    prepare_tiny(root, splits | {"test": (images, np.full_like(labels, -1))})
    for _ in range(2):  # the second load reads the cache
        with pytest.warns(data.UnlabeledSplitWarning, match="'validation' is used"):
            dataset = data.load(
                "tiny", data_dir=root, cache_dir=tmp_path / "cache", stream=stream
            )
        np.testing.assert_array_equal(dataset.test.images[:], splits["test"].images)
        np.testing.assert_array_equal(dataset.test.labels, splits["test"].labels)
        assert dataset.fingerprint == "tfds:tiny:1.0.0, test validation"
        # Labels are looked at before the first image is decoded.
        monkeypatch.setattr("jaxkd.data._records.TfdsImages.labels", None)


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_labels_are_refused_before_images_are_decoded(
    root, load, prepare_tiny, splits, part, monkeypatch
):
    images, labels = splits[part]
    prepare_tiny(root, splits | {part: (images, np.where(labels == 1, -1, labels))})
    monkeypatch.setattr("jaxkd.data._decode.flattened", None)
    with pytest.raises(InvalidInputError, match="rows have no label"):
        load()


def test_a_set_with_training_rows_only_names_the_remedy(
    tmp_path, root, load, prepare_tiny, splits
):
    prepare_tiny(root, {"train": splits["train"]})
    with pytest.raises(InvalidInputError, match=r"--test-split 'train\[90%:\]'"):
        load()


def test_a_tfds_set_is_described_with_all_splits(root, prepare_tiny, splits):
    prepare_tiny(root, splits | {"extra": splits["test"]})
    description = data.describe("tiny", data_dir=root)
    assert description.splits == {"train": 7, "test": 4, "extra": 4}
    np.testing.assert_array_equal(description.train.labels, splits["train"].labels)
    assert description.headers.modes == {"RGB": 11}
