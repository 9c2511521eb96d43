import hashlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError, InvalidTypeError


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_digits_are_bit_equal_to_those_of_the_first_version(digits):
    digest = hashlib.sha256()
    for array in (*digits.train, *digits.test):
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    assert digest.hexdigest() == (
        "ec229e6153e4a8686b30405e3f739274d1e09a930b84efca4b33b6da98fe32e2"
    )
    assert digits.fingerprint == "sha256:ec229e6153e4a868"


def test_digits_are_the_images_and_labels_of_scikit_learn(digits):
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    pixels = np.round(theirs.images / 16 * 255).astype(np.uint8)
    expected = sorted(zip(map(np.ndarray.tobytes, pixels), theirs.target, strict=True))
    ours = [
        (image.tobytes(), label)
        for split in (digits.train, digits.test)
        for image, label in zip(*split, strict=True)
    ]
    assert sorted(ours) == expected
    assert digits.train.images.shape == (1437, 8, 8, 1)
    assert digits.test.images.shape == (360, 8, 8, 1)


def test_digits_are_stratified(digits):
    train, test = (np.bincount(split.labels) for split in (digits.train, digits.test))
    assert (np.abs(test - 360 / 1797 * (train + test)) <= 1).all()


def test_digits_are_not_flipped_and_are_cropped_with_a_padding_of_one(digits):
    assert digits.augmentation == data.Augmentation(crop_padding=1, flip=False)


@pytest.fixture
def arrays(make_split):
    (x_train, y_train), (x_test, y_test) = make_split(7), make_split(4, seed=1)
    return {
        "x_train": x_train,
        "y_train": y_train,
        "x_test": x_test,
        "y_test": y_test,
    }


def save(tmp_path, arrays):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return str(path)


def test_npz_files_are_loaded_unchanged(tmp_path, arrays):
    dataset = data.load(save(tmp_path, arrays))
    np.testing.assert_array_equal(dataset.train.images, arrays["x_train"])
    np.testing.assert_array_equal(dataset.train.labels, arrays["y_train"])
    np.testing.assert_array_equal(dataset.test.images, arrays["x_test"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["y_test"])
    assert dataset.name == "mine"
    assert dataset.num_classes == 3
    assert dataset.augmentation == data.Augmentation(crop_padding=1, flip=False)


def test_npz_gray_images_get_a_channel_axis_and_label_columns_lose_one(
    tmp_path, arrays
):
    arrays |= {key: arrays[key][..., 0] for key in ("x_train", "x_test")}
    arrays |= {key: arrays[key][:, None] for key in ("y_train", "y_test")}
    dataset = data.load(save(tmp_path, arrays))
    assert dataset.image_shape == (6, 5, 1)
    assert dataset.train.labels.shape == (7,)


def test_npz_class_names_set_the_number_of_classes(tmp_path, arrays):
    arrays["class_names"] = np.array(["cat", "dog", "owl", "yak"])
    dataset = data.load(save(tmp_path, arrays))
    assert dataset.num_classes == 4
    assert dataset.class_names == ("cat", "dog", "owl", "yak")


def test_npz_fingerprint_depends_on_the_file(tmp_path, arrays):
    first = data.load(save(tmp_path, arrays)).fingerprint
    arrays["x_train"][0, 0, 0, 0] ^= 1
    assert data.load(save(tmp_path, arrays)).fingerprint != first


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("y_test", lambda a: None, "y_test is missing"),
        ("x_train", lambda a: a[:0], "x_train must be a non-empty"),
        ("x_test", lambda a: a.astype(np.int64), "x_test must be uint8 or floating"),
        ("x_test", lambda a: a * np.nan, "x_test must be finite"),
        ("y_train", lambda a: a[:-1], "y_train must contain one class number"),
        ("y_train", lambda a: a - 1, "y_train must lie in"),
        ("y_train", lambda a: np.eye(3)[a], "y_train must contain one class number"),
        ("y_test", lambda a: a.astype(object), "cannot read y_test"),
        ("y_train", lambda a: np.array(["cat"] * len(a)), "number the classes with"),
        ("y_train", lambda a: np.array([b"cat"] * len(a)), "number the classes with"),
        ("y_train", lambda a: a + 0.5, "0.5 is no class number"),
        ("y_train", lambda a: a * np.nan, "nan is no class number"),
        ("y_test", lambda a: a * 1.0, r"convert them with y.astype\(np.int32\)"),
        ("y_test", lambda a: a > 0, r"convert them with y.astype\(np.int32\)"),
    ],
)
def test_npz_errors_name_the_file_and_the_key(tmp_path, arrays, key, change, message):
    arrays[key] = change(arrays[key])
    if arrays[key] is None:
        del arrays[key]
    with pytest.raises(
        InvalidInputError, match=rf"mine\.npz.*{message}|{message}.*mine"
    ):
        data.load(save(tmp_path, arrays))


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"\x93NUMPY\x01\x00"])
def test_the_error_for_an_unreadable_npz_names_the_file(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"cannot read .*mine\.npz"):
        data.load(str(path))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_the_error_for_a_truncated_npz_names_the_file(tmp_path, arrays, share):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InvalidInputError, match=r"mine\.npz"):
        data.load(str(path))


@pytest.mark.parametrize("start", [70, 300])  # Coding tables, pixels.
def test_the_error_for_damaged_pixels_names_the_file_and_the_key(
    tmp_path, arrays, start
):
    arrays["x_train"] //= 16  # Compressible, so that there are tables.
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    content[start : start + 20] = b"\xff" * 20  # Inside the compressed x_train.
    path.write_bytes(bytes(content))
    with pytest.raises(InvalidInputError, match=r"cannot read x_train of .*mine\.npz"):
        data.load(str(path))


@pytest.mark.parametrize(
    "name, says",
    [
        ("./photos", "there is no folder or file ./photos"),
        ("photos/birds", "there is no folder or file photos/birds"),
        ("/nowhere/photos", "there is no folder or file /nowhere/photos"),
        ("photos.npz", "there is no folder or file photos.npz"),
        ("photos.zip", "there is no folder or file photos.zip"),
        ("./list.txt", "./list.txt is a file of another kind"),
        ("birds", "birds is a folder here: write ./birds"),
        ("cifar100/none:9.0.0", "'cifar100/none:9.0.0' is not prepared in"),
        ("nosuchthing", "known: digits, and any dataset of TensorFlow Datasets"),
    ],
)
def test_a_wrong_path_is_not_reported_as_an_unknown_name(
    tmp_path, monkeypatch, name, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds").mkdir()
    (tmp_path / "list.txt").touch()
    with pytest.raises(InvalidInputError, match=re.escape(says)):
        data.load(name, data_dir=tmp_path / "tfds")


@pytest.mark.parametrize("load", [data.load, data.describe])
@pytest.mark.parametrize(
    "name, settings",
    [
        ("~nosuch", {}),
        ("~nosuch/birds", {}),
        ("~nosuch/birds.npz", {}),
        ("~nosuch/birds.zip", {}),
        ("birds", {"data_dir": "~nosuch"}),
    ],
)
def test_a_home_folder_of_nobody_is_named(load, name, settings):
    with pytest.raises(InvalidInputError, match="there is no user 'nosuch'") as caught:
        load(name, **settings)
    assert caught.value.argument == next(iter(settings), "name")


def test_a_folder_whose_name_begins_with_a_tilde_is_read(tmp_path, monkeypatch, arrays):
    monkeypatch.chdir(tmp_path)
    np.savez("~nosuch.npz", **arrays)
    assert data.load("./~nosuch.npz").num_classes == 3


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["tensorflow_datasets", "pyarrow", "matplotlib", "flax", "PIL", "rich"]
    code = f"import sys, jaxkd.data; print(*set({heavy}) & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert result.returncode == 0
    assert result.stdout.split() == []


@pytest.mark.parametrize(
    "labels, says",
    [
        (lambda y: y + 1, "are 1 to 3, so class 0 has no image; subtract 1"),
        (lambda y: y * 2**27, "classes for 11 images"),
    ],
)
def test_npz_labels_that_are_no_class_numbers_are_refused(
    tmp_path, arrays, labels, says
):
    arrays |= {key: labels(arrays[key]) for key in ("y_train", "y_test")}
    with pytest.raises(InvalidInputError, match=says):
        data.load(save(tmp_path, arrays))
    names = np.array(["none", "cat", "dog", "owl"])
    if labels(1) == 2:  # With names, class 0 may be empty; that is said.
        said = data.load(save(tmp_path, arrays | {"class_names": names})).doubts
        assert "1 of 4 classes have no training images: class 'none'" in said


def test_npz_rows_are_sliced_with_the_share_of_each_class(tmp_path, arrays):
    path = save(tmp_path, arrays)
    dataset = data.load(path, train_split="train[:3]+test", test_split="train[3:]")
    assert len(dataset.train.labels) == 3 + 4
    np.testing.assert_array_equal(np.sort(dataset.train.labels[:3]), [0, 1, 2])
    whole = data.load(path)
    assert dataset.fingerprint == (
        f"{whole.fingerprint}, train train[:3]+test, test train[3:]"
    )
    with pytest.raises(InvalidInputError, match="share 4 rows of 'test'"):
        data.load(path, train_split="train+test")
    with pytest.raises(InvalidInputError, match="no split 'val'"):
        data.load(path, test_split="val")


def test_npz_class_names_that_occur_twice_are_refused(tmp_path, arrays):
    arrays["class_names"] = np.array(["cat", "dog", "cat"])
    with pytest.raises(InvalidInputError, match="names the class 'cat' twice"):
        data.load(save(tmp_path, arrays))


def test_other_names_of_arrays_are_refused_with_those_that_are_expected(
    tmp_path, arrays
):
    parts = {"x": "images", "y": "labels"}
    medical = {f"{k[2:]}_{parts[k[0]]}": array for k, array in arrays.items()}
    with pytest.raises(
        InvalidInputError, match=r"contains test_images.*x_train=\.\.\."
    ):
        data.load(save(tmp_path, medical))


@pytest.mark.parametrize("load", [data.load, data.describe])
@pytest.mark.parametrize("value_range", [(0, np.nan), (1, 0), (0, np.inf)])
def test_ranges_without_sense_are_refused(tmp_path, arrays, load, value_range):
    with pytest.raises(InvalidInputError, match="must be two finite numbers"):
        load(save(tmp_path, arrays), value_range=value_range)


@pytest.mark.parametrize("load", [data.load, data.describe])
@pytest.mark.parametrize("name", [None, 3, ["digits"]])
def test_names_of_other_types_are_refused(load, name):
    unchecked = inspect.unwrap(load)  # without the type checks of tests
    says = f"must be text or a path, got {name!r}"
    with pytest.raises(InvalidTypeError, match=re.escape(says)):
        unchecked(name)


@pytest.mark.parametrize("load", [data.load, data.describe])
def test_paths_are_those_of_files_without_a_separator_too(
    tmp_path, monkeypatch, arrays, load
):
    save(tmp_path, arrays)
    monkeypatch.chdir(tmp_path)
    assert load(Path("mine.npz")).class_names == ("0", "1", "2")
