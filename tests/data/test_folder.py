import numpy as np
import pytest
from PIL import Image

from jaxkd import data
from jaxkd._errors import InvalidInputError

COUNTS = {"train": {"owl": 3, "cat": 2}, "test": {"owl": 1, "cat": 2}}


def pixels(seed, size=(5, 6), channels=3):
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(root, counts=COUNTS, **settings):
    """Writes a folder of images; returns its pixels by part, in row order."""
    written, seed = {}, 0
    for part, classes in counts.items():
        written[part] = []
        for name in sorted(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(classes[name]):
                seed += 1
                array = pixels(seed, **settings)
                Image.fromarray(array).save(root / part / name / f"{i}.png")
                written[part].append(array.reshape(*array.shape[:2], -1))
    return written


@pytest.fixture
def root(tmp_path):
    return tmp_path / "animals"


@pytest.fixture
def load(tmp_path, root):
    def load(**settings):
        return data.load(str(root), cache_dir=tmp_path / "cache", **settings)

    return load


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_classes_are_those_of_the_files(root, load, stream, channels):
    written = write(root, channels=channels)
    dataset = load(stream=stream)
    assert dataset.class_names == ("cat", "owl")
    assert dataset.name == "animals"
    for part, labels in (("train", [0, 0, 1, 1, 1]), ("test", [0, 0, 1])):
        split = getattr(dataset, part)
        np.testing.assert_array_equal(split.images[:], written[part])
        np.testing.assert_array_equal(split.labels, labels)
    assert not dataset.augmentation.flip


def test_a_gray_image_among_color_images_is_loaded_in_color(root, load):
    write(root)
    Image.fromarray(pixels(0, channels=1)).save(root / "train" / "owl" / "0.png")
    images = load().train.images
    assert images.shape[-1] == 3
    np.testing.assert_array_equal(images[2, ..., 0], pixels(0, channels=1))


def test_gray_images_of_16_bits_have_one_channel_of_8_bits(root, load):
    write(root, channels=1)
    for path in root.rglob("*.png"):
        Image.fromarray(np.full((5, 6), 128 * 257, np.uint16)).save(path)
    images = load().train.images
    assert images.shape[-1] == 1
    assert (images == 128).all()


def test_image_size_scales_to_cover_and_crops_at_the_center(root, load):
    write(root, size=(8, 16))
    step = np.zeros((8, 16, 3), np.uint8)
    step[:, 4:12] = 200  # the middle square
    Image.fromarray(step).save(root / "train" / "cat" / "0.png")
    dataset = load(image_size=4)
    assert dataset.image_shape == (4, 4, 3)
    assert (dataset.train.images[0][:, 1:3] == 200).all()


def test_a_changed_image_is_decoded_again(root, load):
    write(root)
    before = load()
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(root / "test/owl/0.png")
    after = load()
    assert before.fingerprint != after.fingerprint
    assert (after.test.images[-1] == 0).all()


def test_an_unchanged_folder_is_decoded_once(root, load, monkeypatch):
    write(root)
    load()
    monkeypatch.setattr("jaxkd.data._decode.DecodedRows.__init__", None)
    load()


def test_other_files_and_hidden_folders_are_ignored(root, load):
    write(root)
    (root / "train" / "owl" / "notes.txt").write_text("who")
    (root / "train" / ".cache").mkdir()
    assert load().class_names == ("cat", "owl")


def test_ignored_files_are_counted_by_suffix(root):
    write(root)
    (root / "train" / "owl" / "notes.txt").touch()
    (root / "train" / "owl" / ".hidden").touch()
    (root / "test" / "cat" / "more").mkdir()
    (root / "test" / "cat" / "more" / "photo.HEIC").touch()
    (root / "train" / "beside.png").touch()
    (root / "readme.md").touch()  # in no part
    skipped = data.describe(str(root)).skipped
    assert skipped == {".txt": 1, ".heic": 1, ".png": 1}


def test_val_is_used_if_there_is_no_test_folder(root, load):
    write(root, {"train": COUNTS["train"], "val": COUNTS["test"]})
    assert len(load().test.labels) == 3


def cut(root):
    path = root / "test" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


def text(root):
    (root / "train" / "cat" / "1.png").write_text("no image")


def of_another_size(root):
    Image.fromarray(pixels(1, (9, 9))).save(root / "train" / "owl" / "1.png")


def without_test(root):
    (root / "test").rename(root / "more")


def empty_class(root):
    (root / "train" / "emu").mkdir()


def called_valid(root):
    (root / "test").rename(root / "Valid")


def capitals(root):
    (root / "train").rename(root / "Train")
    (root / "test").rename(root / "Test")


def unknown_class(root):
    (root / "test" / "owl").rename(root / "test" / "bat")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "damage, says",
    [
        (cut, r"test/cat/1\.png is not a readable image"),
        (text, r"train/cat/1\.png is not an image"),
        (of_another_size, r"owl/1\.png is \(9, 9, 3\), the first is.*--image-size"),
        (
            without_test,
            r"must contain train/CLASS/IMAGE and test.*it contains more, train",
        ),
        (called_valid, r"contains no folder test or val; rename Valid to val"),
        (capitals, r"no folder train; .* --train-split Train --test-split Test"),
        (empty_class, r"emu contains no images"),
        (
            unknown_class,
            r"'bat', which is not a class of the training images, which are cat, owl",
        ),
    ],
)
def test_errors_name_what_cannot_be_used(root, load, damage, says, stream):
    write(root)
    damage(root)
    with pytest.raises(InvalidInputError, match=says):
        load(stream=stream)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pgm", "PNM", "jp2", "avif", "apng"])
def test_images_of_less_common_suffixes_are_loaded(root, load, suffix):
    write(root)
    Image.fromarray(pixels(0)).save(root / "train/cat/x.png")
    (root / "train/cat/x.png").rename(root / f"train/cat/x.{suffix}")
    description = data.describe(str(root))
    assert description.train.rows == sum(COUNTS["train"].values()) + 1
    assert not description.doubts


@pytest.mark.parametrize(
    "name, says",
    [
        ("train/cat/x.heic", "left out of {root}: 1 with the suffix .heic"),
        ("test/cat/x.SVG", "left out of {root}: 1 with the suffix .svg"),
        ("train/x.png", "images beside the class folders are left out of {root}: 1"),
    ],
)
def test_pictures_that_are_left_out_are_said(root, name, says):
    write(root)
    (root / name).touch()
    (doubt,) = data.describe(str(root)).doubts
    assert says.format(root=root) in doubt
