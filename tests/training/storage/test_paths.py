"""Checkpoints in folders of any name."""

import sys
import tempfile

import jax
import pytest
from flax import nnx
from support import assert_bitwise_equal
from training_support import NormalizedMLP

from jaxkd import interchange, training
from jaxkd._plain_path import plain_path
from jaxkd.training._storage import items

NAMES = [
    "lr=[0.1]",
    "[red]x[/red]",
    "[!a]",
    "a*b",
    "**",
    "what?",
    "two words",
    "-dash",
    "new\nline",
    "per%20cent",
    "ha#sh",
    "~name",
    "back\\slash",
    "$HOME",
    "ünï-日本",
    pytest.param(
        "not-utf8-\udcff",
        marks=pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8"),
    ),
]


@pytest.fixture(scope="module")
def network():
    return NormalizedMLP(nnx.Rngs(3))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_comes_back_from_a_folder_of_any_name(tmp_path, network, name):
    folder = tmp_path / name / "checkpoints"
    training.Checkpoints(folder).save_network(network, {}, step=7)
    assert [path.name for path in folder.iterdir()] == ["7"]
    restored = nnx.eval_shape(lambda: NormalizedMLP(nnx.Rngs(5)))
    training.Checkpoints(folder).restore_network(restored)
    assert_bitwise_equal(nnx.state(restored), nnx.state(network))


@pytest.mark.parametrize("name", ["lr=[0.1]", "plain"])
def test_a_network_is_exported_to_a_folder_of_any_name(tmp_path, network, name):
    import orbax.checkpoint as ocp

    interchange.write_orbax(tmp_path / name / "exported", network)
    assert [path.name for path in (tmp_path / name).iterdir()] == ["exported"]
    (tmp_path / name).rename(tmp_path / "moved")
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(tmp_path / "moved" / "exported")
    assert_bitwise_equal(arrays["classifier.bias"], network.classifier.bias[...])


@pytest.mark.parametrize("path", ["/gs/bucket/run", "/s3/x", "/runs/[1]"])
def test_what_a_storage_library_would_misread_is_reached_through_a_link(path, tmp_path):
    with plain_path(type(tmp_path)(path)) as link:
        assert str(link).startswith(tempfile.gettempdir())
        assert str(link.readlink()) == path
    assert not link.parent.exists()
    with plain_path(tmp_path) as same:
        assert same == tmp_path


def test_without_a_plain_temporary_folder_nothing_is_written(
    tmp_path, network, monkeypatch
):
    (tmp_path / "[tmp]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[tmp]"))
    with pytest.raises(training.CheckpointError, match="set TMPDIR to a folder"):
        training.Checkpoints(tmp_path / "[run]").save_network(network, {})


def test_a_checkpoint_that_cannot_be_read_is_an_error_when_it_is_written(
    tmp_path, network, monkeypatch
):
    write = items.write

    def write_less(folder, parts, record):
        write(folder, parts, record)
        next((folder / "student").glob("manifest*")).unlink()

    monkeypatch.setattr(items, "write", write_less)
    checkpoints = training.Checkpoints(tmp_path)
    with pytest.raises(training.CheckpointError, match="cannot be read back"):
        checkpoints.save_network(network, {}, step=1)
    assert checkpoints.steps() == []


def test_a_checkpoint_of_other_bits_is_an_error_when_it_is_written(
    tmp_path, network, monkeypatch
):
    write = items.write

    def write_others(folder, parts, record):
        write(folder, jax.tree.map(lambda x: x + 1, parts), record)

    monkeypatch.setattr(items, "write", write_others)
    with pytest.raises(training.CheckpointError, match="not read back as it was wri"):
        training.Checkpoints(tmp_path).save_network(network, {}, step=1)
