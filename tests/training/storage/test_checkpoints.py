import errno
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from support import assert_bitwise_equal
from training_support import NormalizedMLP, banked

from jaxkd import InvalidInputError, training


@pytest.fixture(scope="module")
def program():
    return banked()[0]


@pytest.fixture(scope="module")
def loop(program):
    loop = program.start(0)
    for _ in range(2):
        loop, _ = program.training.advance(loop, program.order(loop))
    return loop


def test_a_state_comes_back_bit_for_bit_with_its_record(tmp_path, program, loop):
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {"history": [{"epoch": 1}]})
    restored, record = checkpoints.restore(program.start(1))
    assert_bitwise_equal(loop, restored)
    assert record == {"history": [{"epoch": 1}]}


def test_only_the_newest_are_kept(tmp_path, loop):
    checkpoints = training.Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, loop, {})
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_a_network_is_loaded_without_the_run_that_made_it(tmp_path, program, loop):
    training.Checkpoints(tmp_path).save(2, loop, {})
    network = nnx.eval_shape(lambda: NormalizedMLP(nnx.Rngs(5)))
    training.Checkpoints(tmp_path).restore_network(network)
    assert_bitwise_equal(nnx.state(network), nnx.state(program.student(loop)))


def test_a_network_saved_alone_is_loaded_but_not_resumed(tmp_path, program):
    network = NormalizedMLP(nnx.Rngs(3))
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save_network(network, {"history": []}, step=7)
    assert checkpoints.latest() == 7
    restored = nnx.eval_shape(lambda: NormalizedMLP(nnx.Rngs(5)))
    assert checkpoints.restore_network(restored) == {"history": []}
    assert_bitwise_equal(nnx.state(restored), nnx.state(network))
    with pytest.raises(InvalidInputError, match=r"training .* is no such array there"):
        checkpoints.restore(program.start(0))


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tmp_path, loop):
    training.Checkpoints(tmp_path).save(2, loop, {})
    network = NormalizedMLP(nnx.Rngs(0), classes=7)
    with pytest.raises(ValueError, match=r"classifier.bias is \[4\] there, \[7\]"):
        training.Checkpoints(tmp_path).restore_network(network)


def test_an_empty_folder_has_no_checkpoint(tmp_path, program):
    checkpoints = training.Checkpoints(tmp_path / "none")
    assert checkpoints.latest() is None
    with pytest.raises(ValueError, match="no finished checkpoint"):
        checkpoints.restore(program.start(0))
    assert not (tmp_path / "none").exists()


def test_an_unfinished_checkpoint_is_not_seen(tmp_path, loop):
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {})
    (tmp_path / "4.orbax-checkpoint-tmp-123").mkdir()
    assert checkpoints.latest() == 2


def largest(folder):
    return max(folder.rglob("*"), key=lambda path: path.stat().st_size)


def cut(folder):
    content = largest(folder).read_bytes()
    largest(folder).write_bytes(content[: len(content) // 2])


def flip_a_bit(folder):
    content = bytearray(largest(folder).read_bytes())
    content[len(content) // 2] ^= 1
    largest(folder).write_bytes(content)


DAMAGES = {
    "is not what was written": cut,
    "is not what was written, again": flip_a_bit,
    "is empty": lambda folder: largest(folder).write_bytes(b""),
    "is missing": lambda folder: largest(folder).unlink(),
    "checksums.json is missing": lambda folder: (folder / "checksums.json").unlink(),
    "checksums.json or a file that it lists cannot be read": lambda folder: (
        folder / "checksums.json"
    ).write_text('{"student/d'),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory, loop):
    """A folder of two checkpoints, which tests copy."""
    folder = tmp_path_factory.mktemp("two")
    for step in (2, 4):
        training.Checkpoints(folder).save(step, loop, {"saved": step})
    return folder


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path, program, two, reason
):
    shutil.copytree(two, tmp_path / "copy")
    checkpoints = training.Checkpoints(tmp_path / "copy")
    DAMAGES[reason](tmp_path / "copy" / "4")
    ((step, found),) = checkpoints.damaged()
    assert step == 4
    assert reason.removesuffix(", again") in found
    assert checkpoints.latest() == 2
    _, record = checkpoints.restore(program.start(0))
    assert record == {"saved": 2}


def test_where_all_are_damaged_nothing_is_used(tmp_path, program, two):
    shutil.copytree(two, tmp_path / "copy")
    for step in ("2", "4"):
        flip_a_bit(tmp_path / "copy" / step)
    with pytest.raises(ValueError, match=r"every checkpoint .*step 4: .*; step 2: "):
        training.Checkpoints(tmp_path / "copy").restore(program.start(0))


@pytest.mark.parametrize("step", [3, 4])
def test_saving_renames_what_is_damaged_and_keeps_what_is_intact(
    tmp_path, loop, two, step
):
    shutil.copytree(two, tmp_path / "copy")
    checkpoints = training.Checkpoints(tmp_path / "copy")
    flip_a_bit(tmp_path / "copy" / "4")
    damaged = largest(tmp_path / "copy" / "4").read_bytes()
    checkpoints.save(step, loop, {})
    assert checkpoints.steps() == [2, step]
    assert checkpoints.damaged() == []
    assert largest(tmp_path / "copy" / "4.damaged").read_bytes() == damaged


def test_the_second_damaged_one_of_a_step_gets_a_name_of_its_own(tmp_path):
    checkpoints = training.Checkpoints(tmp_path)
    for name in ("4.damaged", "4.damaged-2", "4.damaged-3"):
        (tmp_path / "4").mkdir()
        assert checkpoints.set_aside(4).name == name


@pytest.mark.parametrize("killed_in", ["checksums", "rename"])
def test_a_kill_amid_a_save_leaves_no_checkpoint_without_checksums(
    tmp_path, loop, two, monkeypatch, killed_in
):
    shutil.copytree(two, tmp_path / "copy")
    checkpoints = training.Checkpoints(tmp_path / "copy")

    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        if killed_in == "checksums":
            patch.setattr("jaxkd.training._storage.checksums.write", kill)
        else:
            patch.setattr("pathlib.Path.rename", kill)
        with pytest.raises(Killed):
            checkpoints.save(6, loop, {})
    assert checkpoints.steps() == [2, 4]
    checkpoints.save(6, loop, {})
    assert sorted(p.name for p in checkpoints.directory.iterdir()) == ["4", "6"]


def test_a_failed_write_keeps_the_last_finished_checkpoint(
    tmp_path, program, loop, monkeypatch
):
    import orbax.checkpoint as ocp

    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {})

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "save", full)
        with pytest.raises(
            training.CheckpointError, match=r"No space left.*step 2 is kept"
        ):
            checkpoints.save(4, loop, {})
    restored, _ = checkpoints.restore(program.start(0))
    assert_bitwise_equal(loop, restored)


@pytest.mark.parametrize(
    "setting", [{"keep": 0}, {"every_steps": 0}, {"every_minutes": 0.0}]
)
def test_refuses_settings_of_zero(tmp_path, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        training.Checkpoints(tmp_path, **setting)


def test_reading_leaves_the_random_key_usable(tmp_path, program, loop):
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {})
    restored, _ = checkpoints.restore(program.start(0))
    expected = jax.random.uniform(loop.train.key)
    np.testing.assert_array_equal(jax.random.uniform(restored.train.key), expected)


def test_a_checkpoint_of_a_version_without_the_learning_rate_is_resumed(
    tmp_path, program, loop
):
    def without_rate(metrics):
        return {k: v for k, v in metrics.items() if k != "learning_rate"}

    monitor = loop.monitor._replace(
        totals=without_rate(loop.monitor.totals),
        failed_metrics=without_rate(loop.monitor.failed_metrics),
    )
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop._replace(monitor=monitor), {})
    restored, _ = checkpoints.restore(program.like(2))
    assert np.isnan(restored.monitor.totals["learning_rate"])
    assert_bitwise_equal(restored.train, loop.train)
    # It was saved after two of the first epoch's three steps.
    _, (first, second) = training.fit(program, restored, epochs=2)
    assert "train/learning_rate" not in first
    assert np.isfinite(first["train/loss"])
    assert second["train/learning_rate"] == pytest.approx(0.05)
