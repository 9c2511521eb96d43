"""Networks loaded from run folders."""

import copy
import json
import shutil

import numpy as np
import pytest
from flax import nnx
from run_support import CONFIG, build_network, flip_a_bit, make_run
from support import assert_bitwise_equal

from jaxkd import runs, training


@pytest.fixture(scope="module")
def networks():
    return [build_network(seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of an older version, with the checkpoints of two networks."""
    config = copy.deepcopy(CONFIG)
    config["dataset"] = {
        "source": "/data/photos",
        "fingerprint": "folder:0, size 8, 9 of 99",
    }
    return make_run(tmp_path_factory.mktemp("run"), seeds=(1, 2), config=config)


def test_a_run_folder_becomes_the_newest_network_and_what_is_known_of_it(run, networks):
    loaded = runs.load_run(str(run))
    assert_bitwise_equal(nnx.state(loaded.module), nnx.state(networks[1]))
    assert loaded.network.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(loaded.normalization.mean, np.float32([0.5]))
    np.testing.assert_array_equal(loaded.normalization.std, np.float32([0.25]))
    assert loaded.dataset == "/data/photos"
    assert loaded.class_names == ("ape", "bee", "cat", "dog")
    assert (loaded.step, loaded.seed, loaded.trials) == (2, 5, 1)
    assert loaded.image_size == 8  # from the fingerprint, which older students have


def test_a_damaged_checkpoint_is_warned_of_and_the_one_before_is_read(
    tmp_path, run, networks
):
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "checkpoints" / "2" / "checksums.json").unlink()
    with pytest.warns(UserWarning, match="step 2 .* is damaged .* step 1 is used"):
        loaded = runs.load_run(copied)
    assert_bitwise_equal(nnx.state(loaded.module), nnx.state(networks[0]))
    told = []
    runs.load_run(copied, warn=told.append)  # any warning would be an error
    assert len(told) == 1


def test_commands_print_the_warning_and_leave_the_damaged_checkpoint_alone(
    tmp_path, run, capsys
):
    copied = shutil.copytree(run, tmp_path / "run")
    flip_a_bit(copied / "checkpoints" / "2")
    assert runs.load_network(copied).version == "step 1"
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning: the checkpoint of step 2" in line
    assert sorted(p.name for p in (copied / "checkpoints").iterdir()) == ["1", "2"]


def test_what_is_no_run_or_no_trial_is_refused(tmp_path, run):
    with pytest.raises(ValueError, match="there is no run folder"):
        runs.load_run(tmp_path / "none")
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        runs.load_run(tmp_path)
    with pytest.raises(ValueError, match="has no trial 1: its run has 1"):
        runs.load_run(run, trial=1)
    copied = tmp_path / "run"
    copied.mkdir()
    shutil.copy(run / "config.json", copied)
    with pytest.raises(ValueError, match="has no finished checkpoint"):
        runs.load_run(copied)


def test_the_requested_dataset_comes_before_the_recorded_one(tmp_path, run):
    loaded = runs.load_run(run)
    assert runs.source_of(loaded, "digits") == "digits"
    assert runs.source_of(loaded, None) == "/data/photos"
    with pytest.raises(ValueError, match="--dataset"):
        runs.source_of(loaded._replace(dataset=None), None)


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG)[:-1])
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        runs.load_run(tmp_path)


def keep_best(run, copied, *, best_steps=None):
    """Copy a run folder, and keep the network of its first checkpoint as the best."""
    shutil.copytree(run, copied)
    config = json.loads((copied / "config.json").read_text())
    config["options"]["keep"] = "best"
    (copied / "config.json").write_text(json.dumps(config))
    training.Checkpoints(copied / "checkpoints-best").save_network(
        build_network(1),
        {"best_steps": [1] if best_steps is None else best_steps},
        step=1,
    )
    return copied


def test_the_best_network_is_loaded_if_the_run_keeps_it(tmp_path, run, networks):
    copied = keep_best(run, tmp_path / "run")
    loaded = runs.load_run(copied)
    assert_bitwise_equal(nnx.state(loaded.module), nnx.state(networks[0]))
    assert (loaded.best, loaded.step) == (True, 1)
    assert loaded.version == "step 1, best validation accuracy"
    assert not runs.load_run(run).best


def test_before_the_first_best_network_the_newest_is_loaded(tmp_path, run, networks):
    copied = keep_best(run, tmp_path / "run")
    shutil.rmtree(copied / "checkpoints-best")
    loaded = runs.load_run(copied)
    assert_bitwise_equal(nnx.state(loaded.module), nnx.state(networks[1]))
    assert not loaded.best


def test_a_damaged_best_network_is_refused_by_name(tmp_path, run):
    copied = keep_best(run, tmp_path / "run")
    flip_a_bit(copied / "checkpoints-best" / "1")
    with pytest.raises(ValueError, match=r"every checkpoint in .*checkpoints-best is"):
        runs.load_run(copied)


@pytest.mark.parametrize("steps", ["3", [0], [True], [1.5]])
def test_steps_of_best_networks_that_are_none_are_refused(tmp_path, run, steps):
    copied = keep_best(run, tmp_path / "run", best_steps=steps)
    with pytest.raises(ValueError, match="whose best_steps are"):
        runs.load_run(copied)
