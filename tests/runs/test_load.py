"""Run folders read from Python."""

import json
import shutil

import numpy as np
import pytest
from flax import nnx
from support import assert_bitwise_equal, build_mlp

from jaxkd import runs, training

NETWORK = {
    "model": "mlp",
    "width": 16,
    "compute_dtype": "float32",
    "num_classes": 4,
    "image_shape": [8, 8, 1],
}
CONFIG = {
    "options": {"seed": 5, "data": {"image_size": None}},
    "network": NETWORK,
    "normalization": {"mean": [0.5], "std": [0.25]},
    "dataset": {"source": "/data/photos", "fingerprint": "folder:0, size 8, 9 of 99"},
    "class_names": ["ape", "bee", "cat", "dog"],
}


@pytest.fixture(scope="module")
def networks():
    return [build_mlp()(nnx.Rngs(seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, networks):
    """A run folder with the checkpoints of two networks, at steps 1 and 2."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for step, network in enumerate(networks, start=1):
        training.Checkpoints(folder / "checkpoints").save_network(
            network, {"history": []}, step=step
        )
    return folder


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
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "checkpoints" / "2" / "checksums.json").unlink()
    with pytest.warns(UserWarning, match="step 2 .* is damaged .* step 1 is used"):
        loaded = runs.load_run(copy)
    assert_bitwise_equal(nnx.state(loaded.module), nnx.state(networks[0]))
    told = []
    runs.load_run(copy, warn=told.append)  # and no warning, which were an error
    assert len(told) == 1


def test_what_is_no_run_or_no_trial_is_refused(tmp_path, run):
    with pytest.raises(ValueError, match="there is no run folder"):
        runs.load_run(tmp_path / "none")
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        runs.load_run(tmp_path)
    with pytest.raises(ValueError, match="has no trial 1: its run has 1"):
        runs.load_run(run, trial=1)
