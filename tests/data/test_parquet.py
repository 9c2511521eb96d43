import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError

NAMES = ["cat", "dog", "owl"]


def write(path, split, encode, *, names=NAMES, columns=("image", "label"), bare=False):
    encoded = [encode(x) for x in split.images]
    images = encoded if bare else [{"bytes": x, "path": None} for x in encoded]
    table = pa.table(dict(zip(columns, (images, split.labels), strict=True)))
    if names:
        features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, path, row_group_size=2)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "animals"
    (root / "data").mkdir(parents=True)
    return root


@pytest.fixture
def load(tmp_path, root):
    return lambda **settings: data.load(
        str(root), cache_dir=tmp_path / "cache", **settings
    )


@pytest.fixture
def splits(make_split):
    return make_split(7), make_split(4, seed=1)


@pytest.fixture
def written(root, splits, encode_png):
    """Two training files and one test file; returns the arrays."""
    train, test = splits
    for i, part in enumerate((slice(0, 5), slice(5, 7))):
        path = root / "data" / f"train-0000{i}-of-00002.parquet"
        write(path, data.Split(train.images[part], train.labels[part]), encode_png)
    write(root / "data" / "test-00000-of-00001.parquet", test, encode_png)
    return splits


@pytest.mark.parametrize("stream", [False, True])
def test_images_and_labels_are_those_of_the_rows(load, written, stream):
    dataset = load(stream=stream)
    for split, (images, labels) in zip(
        (dataset.train, dataset.test), written, strict=True
    ):
        np.testing.assert_array_equal(split.images[:], images)
        np.testing.assert_array_equal(split.labels, labels)
    assert dataset.class_names == tuple(NAMES)
    assert dataset.fingerprint.startswith("parquet:")


def test_streamed_rows_can_be_read_in_any_order(load, written):
    rows = np.array([[6, 0, 3], [2, 5, 1]])
    for (images, _), own in zip(
        load(stream=True).train.images.batches(rows), rows, strict=True
    ):
        np.testing.assert_array_equal(images, written[0].images[own])


@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "coarse_label"])
def test_other_column_names_plain_bytes_and_missing_class_names_are_supported(
    root, load, splits, encode_png, label
):
    settings = {"columns": ("img", label), "names": None, "bare": True}
    write(root / "train.parquet", splits[0], encode_png, **settings)
    write(root / "validation.parquet", splits[1], encode_png, **settings)
    dataset = load()
    np.testing.assert_array_equal(dataset.test.images, splits[1].images)
    assert dataset.class_names == ("0", "1", "2")


def test_a_missing_split_raises(root, load, splits, encode_png):
    write(root / "train.parquet", splits[0], encode_png)
    with pytest.raises(InvalidInputError, match=r"test-\*\.parquet .*none for test"):
        load()
    with pytest.raises(InvalidInputError, match="give the folder that contains"):
        data.load(str(root / "train.parquet"))


def test_missing_columns_raise(root, load, splits, encode_png):
    for name in ("train", "test"):
        path = root / f"{name}.parquet"
        write(path, splits[0], encode_png, columns=("picture", "label"))
    with pytest.raises(
        InvalidInputError, match="column image or img, but its columns are picture"
    ):
        load()


@pytest.mark.parametrize("stream", [False, True])
def test_the_error_for_an_unreadable_image_names_its_row(
    root, load, splits, encode_png, stream
):
    broken = data.Split(*splits[0])
    cut = lambda x: encode_png(x)[: 40 if (x == broken.images[5]).all() else None]
    write(root / "train.parquet", broken, cut)
    write(root / "test.parquet", splits[1], encode_png)
    with pytest.raises(InvalidInputError, match=r"row 5 of .*train\.parquet is no"):
        load(stream=stream)


def test_a_damaged_file_raises(root, load, written):
    path = root / "data" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InvalidInputError, match=r"cannot read .*test-00000"):
        load()
