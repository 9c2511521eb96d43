import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._parquet_layout import find_files


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    "layout",
    [
        "{}.parquet",
        "{}-00000-of-00001-0ab1c2.parquet",
        "{}/0000.parquet",
        "{}/part-0.parquet",
        "data/{}-00000-of-00001.parquet",
        "data/{}/0000.parquet",
        "default/{}/0000.parquet",
        "plain_text/{}-00000-of-00001.parquet",
        "plain_text/data/{}-0.parquet",
    ],
)
def test_published_layouts_are_found(tmp_path, layout):
    touch(tmp_path, *(layout.format(name) for name in ("train", "test", "validation")))
    assert {*find_files(tmp_path)} == {"train", "test", "validation"}


@pytest.mark.parametrize(
    "name, split",
    [
        ("train-00000-of-00002", "train"),
        ("train_small-00000-of-00001", "train_small"),
        ("trainval-00000-of-00001", "trainval"),
        ("test.clean-00000-of-00001", "test.clean"),
        ("valid-00000-of-00001", "val"),
        ("training-00000-of-00001", "train"),
        ("train0", "train"),
        ("train-part-0", "train"),
        ("extra_0", "extra"),
    ],
)
def test_names_tell_the_split(tmp_path, name, split):
    touch(tmp_path, f"{name}.parquet")
    assert [*find_files(tmp_path)] == [split]


def test_parquet_files_beside_class_folders_are_no_images(tmp_path):
    touch(tmp_path, "train/metadata.parquet", "train/cat/0.png", "test/cat/0.png")
    assert find_files(tmp_path) == {}


def test_several_datasets_are_refused_with_their_names(tmp_path):
    touch(tmp_path, "mnist/train-0.parquet", "birds/train/0.parquet")
    with pytest.raises(InvalidInputError, match="birds, mnist; give the folder of one"):
        find_files(tmp_path)


def write(path, encoded):
    path.parent.mkdir(exist_ok=True)
    features = {"label": {"names": ["cat", "dog"]}}
    info = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"image": encoded, "label": [0, 1]})
    pq.write_table(table.replace_schema_metadata(info), path)


@pytest.fixture
def encoded(make_split, encode_png):
    return [encode_png(image) for image in make_split(2).images]


def test_files_that_are_joined_by_the_beginning_of_their_names_are_said(
    tmp_path, encoded
):
    for name in ("train-0", "train-1", "train_small-0", "test-0"):
        write(tmp_path / f"{name}.parquet", encoded)
    (doubt,) = data.describe(str(tmp_path)).doubts
    assert "train-0.parquet, train_small-0.parquet are read as parts of one" in doubt


@pytest.mark.parametrize(
    "names, remedy",
    [
        (["dev", "train"], "--train-split train --test-split dev"),
        (["c10-test", "c10-train"], "--train-split c10-train --test-split c10-test"),
        (["0000"], "--train-split '0000[:90%]' --test-split '0000[90%:]'"),
    ],
)
def test_the_error_for_a_missing_split_names_those_that_exist(tmp_path, names, remedy):
    touch(tmp_path, *(f"{name}.parquet" for name in names))
    with pytest.raises(InvalidInputError) as caught:
        data.load(str(tmp_path))
    assert str(caught.value).endswith(remedy)


@pytest.mark.parametrize(
    "image, says",
    [
        ({"bytes": None, "path": "a.png"}, "only the path 'a.png'; write the files'"),
        ({"bytes": None, "path": None}, "nothing; leave the row out"),
        ("a.png", "only the path 'a.png'; write the files'"),
        ([[1, 2]], "list; leave the row out, or write encoded images"),
    ],
)
def test_rows_without_an_image_file_are_refused_with_the_remedy(tmp_path, image, says):
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", [image, image])
    with pytest.raises(InvalidInputError) as caught:
        data.load(str(tmp_path), cache_dir=tmp_path / "cache")
    assert says in str(caught.value)


def test_files_of_one_split_may_call_their_images_differently(tmp_path, encoded):
    write(tmp_path / "train-0.parquet", encoded)
    write(tmp_path / "test-0.parquet", encoded)
    table = pq.read_table(tmp_path / "train-0.parquet")
    renamed = table.rename_columns(["img", "label"])
    pq.write_table(renamed, tmp_path / "train-1.parquet")
    images = data.load(str(tmp_path), cache_dir=tmp_path / "cache").train.images
    assert (images[:2] == images[2:]).all()


def test_a_split_without_rows_is_not_called_unlabeled(tmp_path, encoded):
    write(tmp_path / "train-0.parquet", encoded)
    table = pq.read_table(tmp_path / "train-0.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "test-0.parquet")
    with pytest.raises(InvalidInputError, match=r"test-0\.parquet contains no rows"):
        data.load(str(tmp_path))


@pytest.mark.parametrize("name", ["", " ", None])
def test_empty_names_are_missing_labels(tmp_path, encoded, name):
    table = pa.table({"image": encoded, "label": ["cat", name]})
    for split in ("train", "test"):
        pq.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(InvalidInputError, match="1 of 2 rows have no label"):
        data.load(str(tmp_path))
