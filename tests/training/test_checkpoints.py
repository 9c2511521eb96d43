import errno

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from support import assert_bitwise_equal, build_mlp, build_resnet, make_dataset

from jaxkd import InvalidInputError, distillers, training


def make_program(build):
    return training.compile_program(
        build,
        make_dataset(),
        distillers.recipe("hkd"),
        optimizer=optax.adam(1e-3),
        batch_size=16,
        teacher=training.freeze(build_mlp()(nnx.Rngs(7))),
    )


@pytest.fixture(scope="module")
def program():
    return make_program(build_resnet())


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
    network = nnx.eval_shape(lambda: build_resnet()(nnx.Rngs(5)))
    training.Checkpoints(tmp_path).restore_network(network)
    assert_bitwise_equal(nnx.state(network), nnx.state(program.student(loop)))


def test_a_network_saved_alone_is_loaded_but_not_resumed(tmp_path, program):
    network = build_resnet()(nnx.Rngs(3))
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save_network(network, {"history": []}, step=7)
    assert checkpoints.latest() == 7
    restored = nnx.eval_shape(lambda: build_resnet()(nnx.Rngs(5)))
    assert checkpoints.restore_network(restored) == {"history": []}
    assert_bitwise_equal(nnx.state(restored), nnx.state(network))
    with pytest.raises(InvalidInputError, match=r"training .* is no such array there"):
        checkpoints.restore(program.start(0))


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tmp_path, loop):
    training.Checkpoints(tmp_path).save(2, loop, {})
    network = build_resnet(classes=7)(nnx.Rngs(0))
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


def cut(content):
    del content[len(content) // 2 :]


def flip_a_bit(content):
    content[len(content) // 2] ^= 1


@pytest.mark.parametrize("damage", [cut, flip_a_bit, bytearray.clear])
def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path, program, loop, damage):
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {})
    file = max((tmp_path / "2").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    damage(content)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint of step 2 in .* is damaged"):
        checkpoints.restore(program.start(0))


def test_a_failed_write_keeps_the_last_finished_checkpoint(
    tmp_path, program, loop, monkeypatch
):
    import orbax.checkpoint as ocp

    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {})

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(
            training.CheckpointError, match=r"No space left.*step 2 is kept"
        ):
            checkpoints.save(4, loop, {})
    restored, _ = checkpoints.restore(program.start(0))
    assert_bitwise_equal(loop, restored)


@pytest.mark.parametrize("setting", ["keep", "every_steps"])
def test_refuses_settings_below_one(tmp_path, setting):
    with pytest.raises(ValueError, match=setting):
        training.Checkpoints(tmp_path, **{setting: 0})


def test_reading_leaves_the_random_key_usable(tmp_path, program, loop):
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(2, loop, {})
    restored, _ = checkpoints.restore(program.start(0))
    expected = jax.random.uniform(loop.train.key)
    np.testing.assert_array_equal(jax.random.uniform(restored.train.key), expected)
