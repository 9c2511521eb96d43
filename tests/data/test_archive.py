"""Damaged and hostile .npz files."""

import io
import os
import re
import socket
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data import _archive

ARRAYS = {
    "x_train": np.zeros((6, 4, 5, 1), np.uint8),
    "y_train": np.arange(6) % 3,
    "x_test": np.zeros((3, 4, 5, 1), np.uint8),
    "y_test": np.arange(3),
}


def write(path, **members):
    """Write a file whose arrays are replaced by the bytes of other members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in ARRAYS.items():
            file = io.BytesIO()
            np.save(file, array)
            archive.writestr(f"{key}.npy", members.pop(key, file.getvalue()))
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)
    return str(path)


def npy(shape, descr="|u1", content=b""):
    """Encode an array whose header may not fit its content."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


class Hostile:
    """Unpickling it would raise another error than the expected one."""

    def __reduce__(self):
        return os._exit, (66,)


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([Hostile()], object), allow_pickle=True)
    return file.getvalue()


NO_ARRAY = "it is not an array, or its header is damaged"


@pytest.mark.parametrize(
    "content, says",
    [
        (npy((11_000_000, 1000, 1000, 1)), "11,000,000,000,128 bytes, but it has 128"),
        (npy((6, 4, 5, 1), content=b"\0" * 119), "248 bytes, but it has 247"),
        (npy((6, 4, 5, 1), content=b"\0" * 121), "248 bytes, but it has 249"),
        (npy((-6, 4, 5, 1), content=b"\0" * 120), "its header is damaged: the shape"),
        (npy((6, 4, 5, 1), "|O", pickled()), "unpickling them could run code"),
        (pickled(), "unpickling them could run code"),
        (b"\x93NUMPY\x01\x00\x20\x00{'descr': ((((((", NO_ARRAY),
        (b"\x93NUMPY\x01\x00\x05\x00" + b"[" * 5, NO_ARRAY),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, NO_ARRAY),
        (b"\x93NUMPY\x09\x00\x05\x00", NO_ARRAY),
        (b"\x93NUMPY", NO_ARRAY),
        (b"some text", NO_ARRAY),
        (b"", NO_ARRAY),
    ],
)
def test_arrays_that_are_not_what_they_claim_are_refused(tmp_path, content, says):
    path = write(tmp_path / "mine.npz", x_train=content)
    with pytest.raises(InvalidInputError, match="cannot read x_train of") as caught:
        data.load(path)
    assert says in str(caught.value)


def test_nothing_is_allocated_for_a_claim(tmp_path):
    path = write(tmp_path / "mine.npz", x_train=npy((100_000_000, 1, 1, 1)))
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="but it has 128"):
        data.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def forged(path, size):
    """Let the directory of a zip file claim another size of its first member."""
    content = bytearray(Path(path).read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    Path(path).write_bytes(content)


@pytest.mark.parametrize(
    "available, size, says",
    [
        (
            2**31,
            2**32 - 2,
            r"claims to contain 4\.3 GB \(x_train: 4\.3 GB\), but .* bytes",
        ),
        (2**40, 2**32 - 2, r"less than 1/250 of it: .*np\.savez, uncompressed"),
    ],
)
def test_files_that_would_unpack_to_too_much_are_refused(
    tmp_path, monkeypatch, available, size, says
):
    path = write(tmp_path / "mine.npz")
    forged(path, size)
    monkeypatch.setattr(_archive, "_available_memory", lambda: available)
    with pytest.raises(InvalidInputError, match=says):
        data.load(path)


def test_the_available_memory_is_known():
    assert 2**20 < _archive._available_memory() < 2**50


def test_other_arrays_are_not_read(tmp_path):
    path = write(tmp_path / "mine.npz", more=pickled(), broken=b"text")
    assert data.load(path).num_classes == 3


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def listening(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(path))
    server.close()


@pytest.mark.parametrize(
    "make, kind",
    [
        (fifo, "a FIFO"),
        (device, "a device"),
        (folder, "a folder"),
        (listening, "a socket"),
    ],
)
def test_only_regular_files_are_opened(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    make(tmp_path / "mine.npz")
    with pytest.raises(InvalidInputError, match=f"it is {kind}; give a regular file"):
        data.load("mine.npz")


@pytest.mark.parametrize("name", ["a\0b.npz", "a" * 300 + ".npz", "mine.npz/x.npz"])
def test_impossible_paths_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.npz")
    with pytest.raises(InvalidInputError, match=r"cannot read|there is no"):
        data.load(name)


def test_a_missing_array_is_named_beside_those_that_are_there(tmp_path):
    np.savez(tmp_path / "mine.npz", images=ARRAYS["x_train"], labels=ARRAYS["y_train"])
    says = "x_train is missing; it contains images, labels"
    with pytest.raises(InvalidInputError, match=re.escape(says)):
        data.load(str(tmp_path / "mine.npz"))


@pytest.mark.parametrize(
    "names, expected",
    [
        (["cat", "dog", "owl"], ("cat", "dog", "owl")),
        ([b"cat", "Käuzchen".encode(), b"owl"], ("cat", "Käuzchen", "owl")),
        ([7, 8, 9], ("7", "8", "9")),
    ],
)
def test_class_names_are_text(tmp_path, names, expected):
    np.savez(tmp_path / "mine.npz", **ARRAYS, class_names=np.array(names))
    assert data.load(str(tmp_path / "mine.npz")).class_names == expected


@pytest.mark.parametrize("names", [np.array("cat"), np.eye(3), np.array([["a"]])])
def test_other_class_names_are_refused(tmp_path, names):
    np.savez(tmp_path / "mine.npz", **ARRAYS, class_names=names)
    with pytest.raises(InvalidInputError, match="must be a list of text"):
        data.load(str(tmp_path / "mine.npz"))
