"""What a dataset is said to be, and what is said to be doubtful about it."""

import os
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from jaxkd import data
from jaxkd._errors import InvalidInputError

COUNTS = {"train": {"cat": 4, "owl": 2}, "test": {"cat": 2, "owl": 1}}


def write(root, counts):
    """Writes a folder of images; the n-th image of all has the color n."""
    color = 0
    for part, classes in counts.items():
        for name, count in classes.items():
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                color += 1
                pixels = np.full((3, 4, 3), color, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture
def root(tmp_path):
    return tmp_path / "animals"


@pytest.fixture
def load(tmp_path, root):
    return lambda **settings: data.load(
        str(root), cache_dir=tmp_path / "cache", **settings
    )


def doubts(root):
    return " | ".join(data.describe(str(root)).doubts)


def test_a_folder_is_described_without_decoding(root, monkeypatch):
    write(root, COUNTS | {"val": {"cat": 1, "owl": 1}})
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(root / "test/owl/gray.png")
    (root / "train/cat/notes.txt").touch()
    monkeypatch.setattr("jaxkd.data._decode.DecodedRows.__init__", None)
    description = data.describe(str(root))
    assert (description.name, description.kind) == ("animals", "folder")
    assert description.splits == {"train": 6, "test": 4, "val": 2}
    assert description.class_names == ("cat", "owl")
    np.testing.assert_array_equal(description.train.labels, [0, 0, 0, 0, 1, 1])
    assert description.test.specification == "test"
    assert description.headers.modes == {"RGB": 9, "L": 1}
    assert description.headers.sizes == {(3, 4): 9, (5, 6): 1}
    assert description.skipped == {".txt": 1}
    assert description.broken == description.repeated == description.doubts == ()


def test_arrays_are_described(tmp_path, make_split):
    (images, labels), test = make_split(9), make_split(6)
    np.savez(
        tmp_path / "a.npz",
        **{"x_train": images, "y_train": labels, "x_test": test[0], "y_test": test[1]},
    )
    description = data.describe(str(tmp_path / "a.npz"), train_split="train[:3]")
    assert description.splits == {"train": 9, "test": 6}
    np.testing.assert_array_equal(description.train.labels, [0, 1, 2])
    assert description.headers is None


def link_a_loop(root):
    (root / "train/cat/loop").symlink_to("..")


def link_a_loop_as_a_class(root):
    (root / "train/loop").symlink_to(".")


def link_two_folders_to_each_other(root):
    (root / "train/cat/inner").mkdir()
    (root / "train/cat/inner/outer").symlink_to("..")


def link_an_image_again(root):
    (root / "train/cat/zero.png").symlink_to("0.png")


def link_an_image_hard(root):
    os.link(root / "train/cat/0.png", root / "train/cat/zero.png")


def link_another_class(root):
    (root / "train/cat/more").symlink_to("../owl")


@pytest.mark.parametrize(
    "link",
    [
        link_a_loop,
        link_a_loop_as_a_class,
        link_two_folders_to_each_other,
        link_an_image_again,
        link_an_image_hard,
        link_another_class,
    ],
)
def test_links_count_no_image_twice_and_are_said(root, load, link):
    write(root, COUNTS)
    link(root)
    dataset = load()
    np.testing.assert_array_equal(dataset.train.labels, [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], [1, 2, 3, 4, 5, 6])
    assert any("1 link to images that are counted already" in d for d in dataset.doubts)


def test_links_to_images_elsewhere_are_images(root, load, tmp_path):
    write(root, COUNTS)
    (root / "train/owl").rename(tmp_path / "elsewhere")
    (root / "train/owl").symlink_to(tmp_path / "elsewhere")
    dataset = load()
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], [1, 2, 3, 4, 5, 6])
    assert not dataset.doubts


@pytest.mark.parametrize(
    "link, target, says",
    [
        ("train/kitty", "cat", "cat and .*kitty are one folder, by a link"),
        ("train/owl/cat.png", "../cat/0.png", "links to one image, with two classes"),
    ],
)
def test_links_that_give_an_image_two_classes_are_refused(
    root, load, link, target, says
):
    write(root, COUNTS)
    (root / link).symlink_to(target)
    with pytest.raises(InvalidInputError, match=says):
        load()


def test_test_images_that_are_linked_to_training_images_are_said(root):
    write(root, COUNTS)
    (root / "test/cat/leak.png").symlink_to("../../train/cat/0.png")
    assert "1 image is linked into several of the splits" in doubts(root)


def test_both_unicode_forms_of_a_name_are_one_class(root, load):
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    write(root, {"train": {composed: 2, apart: 1, "cat": 1}, "test": {apart: 1}})
    dataset = load()
    assert dataset.class_names == ("cat", composed)
    np.testing.assert_array_equal(dataset.train.labels, [0, 1, 1, 1])
    np.testing.assert_array_equal(dataset.test.labels, [1])
    assert any("different Unicode forms" in doubt for doubt in dataset.doubts)


@pytest.mark.parametrize(
    "counts, says",
    [
        ({"train": {"cat": 1, "Cat": 1}, "test": {"cat": 1}}, "'Cat' and 'cat' look"),
        ({"train": {"cat": 1, "cat ": 1}, "test": {"cat": 1}}, "'cat' and 'cat ' look"),
        ({"train": {"cat": 2}, "test": {"cat": 1}}, "only the class 'cat'"),
        ({"train": {"cat": 1, "owl": 1}, "test": {"owl": 1}}, "no test .*'cat'"),
        ({"train": {"cat/a": 1, "owl/b": 1}, "test": {"cat": 1}}, "2 of 2 images in"),
    ],
)
def test_doubtful_classes_are_said(root, counts, says):
    assert re.search(says, doubts(write(root, counts)))


@pytest.mark.parametrize(
    "counts, says",
    [
        (
            {"train/photos": {"cat": 1, "owl": 1}, "test/photos": {"cat": 1}},
            "one folder 'photos', whose images are in the folders cat, owl",
        ),
        (
            {"all/train": {"cat": 1}, "all/test": {"cat": 1}},
            "no folder train, but all does; give .*all",
        ),
        (
            {"train": {"cat": 1, "owl": 1}, "test": {"bat": 1, "yak": 1, "cat": 1}},
            "'bat', 'yak', which are not classes of the training images",
        ),
        ({"cat": {"": 1}, "owl": {"": 1}}, r"--train-split 'train\[:90%\]'"),
        ({"train": {"cat": 1, "owl": 1}}, r"--train-split 'train\[:90%\]'"),
    ],
)
def test_folders_of_another_depth_are_refused_with_the_remedy(root, load, counts, says):
    write(root, counts)
    with pytest.raises(InvalidInputError, match=says):
        load()


@pytest.mark.parametrize("test", [{"": 3}, {"unknown": 3}])
def test_val_replaces_a_test_folder_without_classes(root, load, test):
    write(root, {"train": COUNTS["train"], "test": test, "val": {"cat": 1, "owl": 2}})
    with pytest.warns(data.UnlabeledSplitWarning, match="'val' is used for testing"):
        dataset = load()
    np.testing.assert_array_equal(dataset.test.labels, [0, 1, 1])
    assert load(test_split="val").fingerprint == dataset.fingerprint


def test_a_test_folder_without_classes_and_no_other_is_refused(root, load):
    write(root, {"train": COUNTS["train"], "test": {"": 3}})
    with pytest.raises(InvalidInputError, match=r"no labels to test.*--test-split"):
        load()


def text(path):
    path.write_text("no image")


def truncated(path):
    path.write_bytes(path.read_bytes()[:45])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def dead_link(path):
    path.unlink()
    path.symlink_to("nowhere.png")


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def empty(path):
    path.write_bytes(b"")


DAMAGES = [text, truncated, pipe, dead_link, link_to_itself, empty]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_image_is_counted_and_named(root, load, damage, stream):
    write(root, COUNTS)
    damage(root / "train/cat/1.png")
    with pytest.raises(data.BrokenImagesError, match=r"1 of 9 images.*cat/1\.png"):
        load(stream=stream)


def test_all_broken_images_are_found_and_the_first_are_named(root, load):
    write(root, {"train": {"cat": 4, "owl": 4}, "test": {"cat": 2}})
    for i, damage in enumerate(DAMAGES[:4]):
        damage(root / "train/cat" / f"{i}.png")
    text(root / "test/cat/0.png")
    with pytest.raises(data.BrokenImagesError) as error:
        load()
    assert len(error.value.broken) == 5
    assert "5 of 10 images cannot be used" in str(error.value)
    assert "and 2 more" in str(error.value)
    assert f"jaxkd data {root} lists all" in str(error.value)


@pytest.mark.parametrize("stream", [False, True])
def test_file_names_may_be_any_bytes(root, load, stream):
    write(root, COUNTS)
    cat = os.fsencode(root / "train" / "cat")
    os.rename(cat + b"/0.png", cat + b"/\xff\n\x1b[31m.png")
    images = load(stream=stream).train.images[:]
    assert sorted(images[:, 0, 0, 0]) == [1, 2, 3, 4, 5, 6]


def test_a_class_name_that_is_no_text_is_refused(root, load):
    write(root, COUNTS)
    train = os.fsencode(root / "train")
    os.rename(train + b"/cat", train + b"/\xff")
    with pytest.raises(InvalidInputError, match="is not UTF-8; rename it"):
        load()


def test_a_pipe_named_parquet_is_refused(root, load):
    root.mkdir()
    for name in ("train", "test"):
        os.mkfifo(root / f"{name}.parquet")
    with pytest.raises(InvalidInputError, match="give a regular file"):
        load()


def test_class_folders_are_split_with_the_same_share_of_each(root, load):
    write(root, {"": {"cat": 10, "owl": 20}})
    dataset = load(train_split="train[:80%]", test_split="train[80%:]")
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [8, 16])
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [2, 4])
    colors = [split.images[:, 0, 0, 0] for split in (dataset.train, dataset.test)]
    np.testing.assert_array_equal(np.sort(np.concatenate(colors)), np.arange(1, 31))


def test_folders_of_any_name_are_splits(root, load):
    write(root, {"training": COUNTS["train"], "held_out": COUNTS["test"]})
    dataset = load(train_split="training", test_split="held_out")
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (6, 3)


@pytest.mark.parametrize("stream", [False, True])
def test_joined_splits_have_the_rows_of_both(root, load, stream):
    write(root, COUNTS | {"val": {"cat": 1, "owl": 1}})
    dataset = load(train_split="train+val", stream=stream)
    colors = dataset.train.images[:][:, 0, 0, 0]
    np.testing.assert_array_equal(colors, [1, 2, 3, 4, 5, 6, 10, 11])
    np.testing.assert_array_equal(dataset.train.labels, [0, 0, 0, 0, 1, 1, 0, 1])


def test_other_rows_have_another_fingerprint_and_cache(root, load):
    write(root, COUNTS)
    loaded = [load(), load(train_split="train[:3]"), load(train_split="train[3:]")]
    assert len({dataset.fingerprint for dataset in loaded}) == 3
    assert [len(dataset.train.labels) for dataset in loaded] == [6, 3, 3]
    assert load(train_split="train[:3]").fingerprint == loaded[1].fingerprint
    assert load(train_split="train").fingerprint == loaded[0].fingerprint
