import hashlib

import numpy as np
import pytest
from pictures import encode

from jaxkd import data
from jaxkd.data._repeated import doubts_about_repeated

LEAKED = "1 of 2 test images are also training images"
TWO_LABELS = "1 image has copies, byte for byte, with other labels"


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([("a", 0), ("b", 1)], [("c", 0), ("d", 1)], []),
        ([("a", 0), ("a", 0)], [("c", 0), ("d", 1)], []),
        ([("a", 0), ("b", 1)], [("b", 1), ("d", 1)], [LEAKED]),
        ([("a", 0), ("a", 1)], [("c", 0), ("d", 1)], [TWO_LABELS]),
        ([("a", 0), ("b", 1)], [("c", 0), ("b", 0)], [LEAKED, TWO_LABELS]),
    ],
)
def test_copies_in_both_parts_or_with_two_labels_are_doubtful(train, test, expected):
    hashes, labels = {}, {}
    for part, rows in (("train", train), ("test", test)):
        hashes[part] = b"".join(hashlib.sha256(x.encode()).digest() for x, _ in rows)
        labels[part] = np.array([label for _, label in rows], np.int32)
    doubts = doubts_about_repeated(hashes, labels)
    assert len(doubts) == len(expected)
    for doubt, beginning in zip(doubts, expected, strict=True):
        assert doubt.startswith(beginning)


@pytest.mark.parametrize("stream", [False, True])
def test_a_copied_image_is_found_when_a_folder_is_loaded(tmp_path, stream):
    for name, gray in (("train/a/0", 0), ("train/b/1", 1), ("test/a/2", 2)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(np.full((8, 8), gray, np.uint8), "png"))
    copy = tmp_path / "test/b/other name.png"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "train/b/1.png").read_bytes())
    for _ in ("written", "read again"):
        dataset = data.load(str(tmp_path), cache_dir=tmp_path / "cache", stream=stream)
        assert any(doubt.startswith(LEAKED) for doubt in dataset.doubts)
