"""The cache notices changed files, and the fingerprint is that of the contents."""

import os
import resource
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encode

from jaxkd import data
from jaxkd._errors import InvalidInputError


def write_folder(root, value):
    for part in ("train", "test"):
        for name in ("cat", "owl"):
            folder = root / "set" / part / name
            folder.mkdir(parents=True, exist_ok=True)
            image = np.full((4, 5, 3), value, np.uint8)
            (folder / "1.bmp").write_bytes(encode(image, "BMP"))


def write_parquet(root, value):
    (root / "set").mkdir(parents=True, exist_ok=True)
    images = [encode(np.full((4, 5, 3), value, np.uint8), "BMP")] * 2
    table = pa.table({"image": images, "label": [0, 1]})
    for part in ("train", "test"):
        path = root / "set" / f"{part}.parquet"
        pq.write_table(table, path, compression="none", use_dictionary=False)


@pytest.fixture
def write_tfds(prepare_tiny):
    def write(root, value):
        shutil.rmtree(root / "tiny", ignore_errors=True)
        split = data.Split(np.full((3, 4, 5, 3), value, np.uint8), np.arange(3))
        prepare_tiny(root, {"train": split, "test": split})

    return write


@pytest.fixture(params=["folder", "parquet", "tfds"])
def write(request):
    """Write a dataset whose pixels all have a value."""
    if request.param == "tfds":
        return request.getfixturevalue("write_tfds")
    return {"folder": write_folder, "parquet": write_parquet}[request.param]


@pytest.fixture
def load(tmp_path):
    def load(root, **settings):
        settings = {"cache_dir": tmp_path / "cache"} | settings
        if (root / "tiny").exists():
            return data.load("tiny", data_dir=root, **settings)
        return data.load(str(root / "set"), **settings)

    return load


def times_of(root):
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path: (path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("stream", [False, True])
def test_other_contents_of_the_same_name_size_and_time_are_read(
    tmp_path, load, write, stream
):
    write(tmp_path, 17)
    before = times_of(tmp_path)
    assert (load(tmp_path, stream=stream).train.images[:] == 17).all()
    sizes = {path: path.stat().st_size for path in before}
    write(tmp_path, 44)
    for path, times in before.items():
        os.utime(path, ns=times)
    if not (tmp_path / "tiny").exists():
        assert {path: path.stat().st_size for path in before} == sizes
    assert (load(tmp_path, stream=stream).train.images[:] == 44).all()


def test_unchanged_files_are_decoded_once(tmp_path, load, write, monkeypatch):
    write(tmp_path, 17)
    load(tmp_path)
    monkeypatch.setattr("jaxkd.data._decode.DecodedRows.__init__", None)
    load(tmp_path)


def test_a_moved_folder_is_not_decoded_again(tmp_path, load, monkeypatch):
    write_folder(tmp_path / "here", 17)
    first = load(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setattr("jaxkd.data._decode.DecodedRows.__init__", None)
    assert load(tmp_path / "there").fingerprint == first.fingerprint


def test_a_copy_has_the_same_fingerprint_streamed_or_not(tmp_path, load, write):
    write(tmp_path / "here", 17)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    settings = [{}, {"stream": True}, {"cache_dir": tmp_path / "other"}]
    places = [tmp_path / "here", tmp_path / "there"]
    found = {load(p, **s).fingerprint for p in places for s in settings}
    assert len(found) == 1


def changed_pixel(root):
    path = root / "set" / "train" / "cat" / "1.bmp"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


def renamed_class(root):
    for part in ("train", "test"):
        (root / "set" / part / "owl").rename(root / "set" / part / "owls")


def moved_image(root):
    train = root / "set" / "train"
    shutil.copy(train / "owl" / "1.bmp", train / "owl" / "2.bmp")
    (train / "owl" / "1.bmp").rename(train / "cat" / "2.bmp")


@pytest.mark.parametrize("change", [changed_pixel, renamed_class, moved_image])
def test_the_fingerprint_depends_on_pixels_classes_and_labels(tmp_path, load, change):
    write_folder(tmp_path, 17)
    before = load(tmp_path).fingerprint
    change(tmp_path)
    assert load(tmp_path).fingerprint != before


def test_a_new_background_is_another_dataset(tmp_path, load):
    write_folder(tmp_path, 17)
    path = tmp_path / "set" / "train" / "cat" / "2.png"
    path.write_bytes(encode(np.zeros((4, 5, 4), np.uint8), "PNG"))
    white, same, black = (
        load(tmp_path, background=color) for color in ("white", "#FFFFFF", "black")
    )
    assert (white.train.images[1] == 255).all()
    assert (black.train.images[1] == 0).all()
    assert white.fingerprint == same.fingerprint
    assert black.fingerprint == f"{white.fingerprint}, background #000000"


def test_background_is_refused_for_arrays():
    with pytest.raises(InvalidInputError, match="--background"):
        data.load("digits", background="black")


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_disk_names_the_cache_and_leaves_nothing(tmp_path, load, write, stream):
    write(tmp_path, 17)
    load(tmp_path, cache_dir=tmp_path / "other", stream=stream)  # Imports are done.
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(InvalidInputError, match=r"cannot write .*/cache/") as got:
            load(tmp_path, stream=stream)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert got.value.argument == "cache_dir"
    assert "File too large" in str(got.value)
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path, load, monkeypatch):
    write_folder(tmp_path, 17)

    def refuse(self, rows):
        raise PermissionError(13, "Permission denied", "1.bmp")

    monkeypatch.setattr("jaxkd.data._folder.ImageFiles.read", refuse)
    with pytest.raises(
        InvalidInputError, match=r"cannot read 1\.bmp: Permission denied"
    ):
        load(tmp_path)
