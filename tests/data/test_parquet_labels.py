"""Labels of parquet files: what they are, and which are refused."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError

NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "animals"
    root.mkdir()
    return root


@pytest.fixture
def write(root, encode_png):
    """Writes a part whose image ``i`` has the color ``i``."""

    def write(name, labels, *, names=None, kind=None, gray=()):
        pixels = [np.full((4, 4, 1 if i in gray else 3), i) for i in range(len(labels))]
        encoded = [encode_png(x.astype(np.uint8)) for x in pixels]
        columns = {"image": encoded, "label": pa.array(labels, kind)}
        table = pa.table(columns)
        if names is not None:
            info = {"info": {"features": {"label": {"names": names}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / f"{name}.parquet")

    return write


@pytest.fixture
def load(tmp_path, root):
    def load(**settings):
        with warnings.catch_warnings(record=True):
            return data.load(str(root), cache_dir=tmp_path / "cache", **settings)

    return load


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "first, second, test",
    [
        (NAMES, ["owl", "cat", "dog"], ["dog", "owl", "cat"]),
        (NAMES, NAMES, ["owl", "cat"]),  # the test part leaves one out
        (NAMES, None, NAMES),  # the second names none: the numbers of the first
        (NAMES, "values", "values"),  # names as values
    ],
)
def test_classes_of_all_parts_are_matched_by_name(
    load, write, first, second, test, stream
):
    def labels_of(classes, names):
        if names == "values":
            return classes
        return [(names or NAMES).index(name) for name in classes]

    def listed(names):
        return None if names == "values" else names

    write("train-0", labels_of(["cat", "dog", "owl"], first), names=first)
    write("train-1", labels_of(["owl", "cat"], second), names=listed(second))
    write("test", labels_of(["cat", "owl"], test), names=listed(test))
    dataset = load(stream=stream)
    assert dataset.class_names == ("cat", "dog", "owl")
    np.testing.assert_array_equal(dataset.train.labels, [0, 1, 2, 2, 0])
    np.testing.assert_array_equal(dataset.test.labels, [0, 2])


def test_parts_that_list_their_classes_differently_are_said(load, write):
    write("train-0", [0, 1], names=["cat", "dog"])
    write("train-1", [0, 1], names=["dog", "cat"])
    write("test", [0, 1])
    said = " ".join(load().doubts)
    assert "train-1.parquet lists its classes differently" in said
    assert "test.parquet does not name its classes" in said


@pytest.mark.parametrize(
    "labels, kind",
    [
        (["owl", "cat", "dog"], None),
        (["owl", "cat", "dog"], pa.large_string()),
        (["owl", "cat", "dog"], pa.dictionary(pa.int8(), pa.string())),
    ],
)
def test_names_as_labels_are_sorted_classes(load, write, labels, kind):
    write("train", labels, kind=kind)
    write("test", ["dog", "owl"], kind=kind)
    dataset = load()
    assert dataset.class_names == ("cat", "dog", "owl")
    np.testing.assert_array_equal(dataset.train.labels, [2, 0, 1])
    np.testing.assert_array_equal(dataset.test.labels, [1, 2])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int64(), pa.uint64()])
def test_whole_numbers_of_all_widths_are_labels(load, write, kind):
    write("train", [0, 1, 2], kind=kind)
    write("test", [2, 1], kind=kind)
    np.testing.assert_array_equal(load().test.labels, [2, 1])


@pytest.mark.parametrize(
    "labels, kind, names, says",
    [
        ([1, 2, 3], None, None, r"are 1 to 3, so class 0 has no image; subtract 1"),
        ([5, 6, 7], None, None, r"are 5 to 7, so class 0 has no image; subtract 5"),
        ([0, 1, 2**27], None, None, r"134,217,729 classes for 3 images"),
        ([0, 1, None], pa.int64(), None, r"1 of 3 rows have no label.*row 2 of"),
        ([0, 1, -1], None, None, r"1 of 3 rows have no label"),
        (["cat", None, "dog"], None, None, r"1 of 3 rows have no label"),
        ([-1, -1, -1], None, NAMES, r"train\.parquet has no labels"),
        ([None, None, None], pa.null(), None, r"train\.parquet has no labels"),
        ([0.0, 1.0, 2.0], None, None, r"type double \(first value 0\.0\)"),
        ([True, False, True], None, None, r"type bool"),
        ([[0], [1], [2]], None, None, r"type list.*whole numbers or names"),
        ([0, 1, 3], None, NAMES, r"has the label 3, but names only the 3 classes"),
        ([0, 1, 2**64 - 1], pa.uint64(), None, r"not class numbers"),
        ([0, 1, 1], None, ["cat", "cat"], r"names the class 'cat' twice"),
    ],
)
def test_other_labels_are_refused(load, write, labels, kind, names, says):
    write("train", labels, kind=kind, names=names)
    write("test", [0, 1], names=names)
    with pytest.raises(InvalidInputError, match=says):
        load()


@pytest.mark.parametrize(
    "labels, names", [([0, 1], ["cat", "yak"]), (["yak"], None), ([7], None)]
)
def test_a_test_class_that_training_does_not_know_is_refused(
    load, write, labels, names
):
    write("train", [0, 1, 1], names=None if labels == [7] else ["cat", "dog"])
    write("test", labels, names=names)
    with pytest.raises(InvalidInputError, match=r"'yak'|has the label 7"):
        load()


def test_a_file_without_labels_says_its_columns(root, load, encode_png):
    image = encode_png(np.zeros((4, 4, 3), np.uint8))
    for name in ("train", "test"):
        pq.write_table(pa.table({"image": [image]}), root / f"{name}.parquet")
    with pytest.raises(InvalidInputError, match=r"or fine_label or coarse.*image"):
        load()


@pytest.mark.parametrize(
    "labels, kind", [([-1, -1], None), ([None, None], pa.int64()), (None, None)]
)
def test_validation_replaces_a_test_part_without_labels(
    root, tmp_path, load, write, labels, kind, encode_png
):
    write("train", [0, 1, 2], names=NAMES)
    write("validation", [2, 0], names=NAMES)
    if labels is None:
        image = encode_png(np.zeros((4, 4, 3), np.uint8))
        pq.write_table(pa.table({"image": [image]}), root / "test.parquet")
    else:
        write("test", labels, kind=kind, names=NAMES)
    with pytest.warns(data.UnlabeledSplitWarning, match="'validation' is used"):
        dataset = data.load(str(root), cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(dataset.test.labels, [2, 0])
    assert any("has no labels" in doubt for doubt in dataset.doubts)
    assert dataset.fingerprint == load(test_split="validation").fingerprint


@pytest.mark.parametrize("gray", [(0,), (3,), (0, 1, 2)])
def test_one_image_in_color_makes_the_set_colored(load, write, gray):
    write("train", [0, 1, 0, 1], gray=gray)
    write("test", [0, 1], gray=(0, 1))
    assert load().image_shape == (4, 4, 3)


def test_a_slice_of_sorted_rows_has_all_classes(load, write):
    write("train", [0] * 10 + [1] * 10)
    dataset = load(train_split="train[:80%]", test_split="train[80%:]")
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [8, 8])
    np.testing.assert_array_equal(dataset.test.images[:, 0, 0, 0], [8, 9, 18, 19])
