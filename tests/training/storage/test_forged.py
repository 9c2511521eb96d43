"""Checkpoints whose files have been changed together with their checksums."""

import json

import pytest
from flax import nnx
from training_support import NormalizedMLP

from jaxkd import InvalidInputError, training
from jaxkd.training._storage import checksums, items


@pytest.fixture(scope="module")
def network():
    return NormalizedMLP(nnx.Rngs(3))


@pytest.fixture
def checkpoint(tmp_path, network):
    """The folder of a checkpoint."""
    training.Checkpoints(tmp_path).save_network(network, {"history": []}, step=7)
    return tmp_path / "7"


def load(checkpoint):
    restored = nnx.eval_shape(lambda: NormalizedMLP(nnx.Rngs(5)))
    return training.Checkpoints(checkpoint.parent).restore_network(restored)


def forge(checkpoint, name, content):
    (checkpoint / name).write_bytes(content)
    checksums.write(checkpoint)


RECORD, TREE = "record/metadata", "student/_METADATA"
FORGED = [
    *((RECORD, whole) for whole in (None, [], 5, "x", {})),
    (RECORD, {"arrays": 5}),
    (RECORD, {"arrays": {"student": [1]}}),
    (RECORD, {"arrays": {"student": {"a": "x"}}}),
    (RECORD, {"arrays": {"student": {"a": [-1]}}}),
    *((TREE, whole) for whole in (None, [], {}, {"tree_metadata": 5})),
]


@pytest.mark.parametrize("name, content", FORGED)
def test_forged_metadata_is_refused_by_the_name_of_the_checkpoint(
    checkpoint, name, content
):
    forge(checkpoint, name, json.dumps(content).encode())
    with pytest.raises(
        InvalidInputError, match=rf"checkpoint of step 7 in {checkpoint.parent}"
    ):
        load(checkpoint)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("trials", "x"),
        ("trials", [0]),
        ("trials", [2, 3]),
        ("averaged", "yes"),
        ("history", [1]),
        ("history", "x"),
    ],
)
def test_a_forged_entry_of_the_record_is_refused(checkpoint, entry, value):
    record = json.loads((checkpoint / RECORD).read_text())
    forge(checkpoint, RECORD, json.dumps({**record, entry: value}).encode())
    with pytest.raises(InvalidInputError, match="has a record whose"):
        load(checkpoint)


@pytest.mark.parametrize("name", [RECORD, TREE, "student/manifest.ocdbt"])
@pytest.mark.parametrize("content", [b"", b"[" * 5000, b"\xff\xfe", bytes(100)])
def test_what_is_no_metadata_is_refused_without_a_word_on_stderr(
    checkpoint, name, content, capfd
):
    forge(checkpoint, name, content)
    with pytest.raises(InvalidInputError, match="checkpoint of step 7"):
        load(checkpoint)
    assert capfd.readouterr().err == ""


def test_arrays_larger_than_the_memory_are_refused_before_they_are_made(
    tmp_path, monkeypatch, checkpoint
):
    monkeypatch.setattr(items.os, "sysconf", lambda name: 10)
    with pytest.raises(InvalidInputError, match=r"step 7 .* needs 0 GB, but this mach"):
        load(checkpoint)


def test_an_intact_checkpoint_is_read(checkpoint):
    assert load(checkpoint) == {"history": []}
