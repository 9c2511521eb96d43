"""A manifest may come from anywhere: what cannot be right is refused in one line."""

import json

import pytest
from recording_support import draw, record

from jaxkd import recordings
from jaxkd._errors import InvalidInputError

MISSING = object()
CHANGES = [
    ("format", 2, "format is 2, but it must be 1"),
    ("format", MISSING, "it has no format"),
    *(
        (path, MISSING, f"it has no {path}")
        for path in (
            *("views", "views.rows", "views.data_seed", "views.augmentation"),
            *("class_names", "dtype", "top_k", "outputs", "epochs", "classifier"),
            "views.augmentation.crop_padding",
        )
    ),
    ("views", [], "views is [], but it must be an object"),
    ("views.rows", 40.0, "views.rows is 40.0, but it must be an integer from 1"),
    ("views.rows", float("nan"), 'views.rows is "nan"'),
    ("views.rows", -1, "views.rows is -1"),
    ("views.rows", 49, "bytes in place of"),
    ("views.batch_size", 1000, "views.batch_size is 1000, more than 40 rows"),
    ("views.image_shape", [8, 8], "views.image_shape is [8, 8], but it must be three"),
    ("views.data_seed", None, "views must have a data_seed and an augmentation"),
    ("views.augmentation", None, "views must have a data_seed and an augmentation"),
    ("views.augmentation.flip", 1, "views.augmentation.flip is 1"),
    ("views.augmentation.mixup", float("nan"), "views.augmentation.mixup is"),
    ("views.augmentation.randaugment", [2], "views.augmentation.randaugment is [2]"),
    ("views.epochs", 1, "it has 2 epochs of 1"),
    ("class_names", [], "class_names is []"),
    ("class_names", ["a", 1, "b", "c"], "class_names is ["),
    ("class_names", list("abcde"), "logits have the shape [4] for 5 classes"),
    ("dtype", "object", 'dtype is "object", but it must be one of float32, float16'),
    ("top_k", 4, "top_k is 4 for 4 logits"),
    ("top_k", 2, "epoch 1 has the files"),
    ("outputs", {}, "it has complete epochs, but no outputs"),
    ("outputs", {"../../logits": [4]}, "outputs is {"),
    ("outputs", {"logits": [4, 4]}, "its logits have the shape [4, 4]"),
    ("outputs", {"logits": [2**40]}, "outputs is {"),
    ("outputs", {"logits": [5]}, "bytes in place of"),
    ("available", ["../x"], "available is ["),
    ("epochs", [{"../../secret.npy": 1}] * 2, "epoch 1 has the files"),
    ("epochs", [{"logits.npy": "1"}], "epochs is ["),
    ("epochs", [{"logits.npy": -1}], "epochs is ["),
    ("epochs", "many", "epochs is"),
    ("deviations", {"logits": {"values": None}}, "deviations is {"),
    ("teacher", "a", "teacher is"),
    ("load_options", {"image_size": "big"}, "load_options.image_size is"),
    ("load_options", {"value_range": [0]}, "load_options.value_range is [0]"),
    ("classifier", 1, "classifier.npz is damaged: it cannot be read"),
    ("classifier", "../x", "classifier is"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    record(folder, 2, {"logits": draw(2)})
    return folder


@pytest.mark.parametrize("path, value, says", CHANGES)
def test_a_manifest_that_cannot_be_right_is_refused_in_one_line(
    folder, path, value, says
):
    file = folder / "manifest.json"
    whole = file.read_text()
    content = json.loads(whole)
    *sections, name = path.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    if value is MISSING:
        del inner[name]
    else:
        inner[name] = value
    try:
        file.write_text(json.dumps(content))
        with pytest.raises(InvalidInputError) as caught:
            recordings.open(folder)
    finally:
        file.write_text(whole)
    text = str(caught.value)
    assert says in text
    assert "is damaged: " in text
    assert "\n" not in text
    assert len(text) < 400 + len(str(folder))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1, "a": 2}', "\x1b[2J"])
def test_what_is_no_manifest_is_refused(folder, content):
    file = folder / "manifest.json"
    whole = file.read_text()
    try:
        file.write_text(content)
        with pytest.raises(InvalidInputError, match="is damaged") as caught:
            recordings.open(folder)
    finally:
        file.write_text(whole)
    assert "\x1b" not in str(caught.value)


def test_entries_of_later_versions_are_ignored(folder):
    file = folder / "manifest.json"
    whole = file.read_text()
    content = json.loads(whole)
    content["later"] = content["views"]["later"] = 1
    try:
        file.write_text(json.dumps(content))
        assert recordings.open(folder).views.rows == 40
    finally:
        file.write_text(whole)


def test_an_augmentation_of_a_later_version_is_refused(folder):
    file = folder / "manifest.json"
    whole = file.read_text()
    content = json.loads(whole)
    content["views"]["augmentation"]["later"] = 1
    try:
        file.write_text(json.dumps(content))
        with pytest.raises(InvalidInputError, match="unknown setting 'later'"):
            recordings.open(folder)
    finally:
        file.write_text(whole)
