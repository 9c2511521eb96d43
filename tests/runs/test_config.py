"""The contents of `config.json`, written and read."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from run_support import CONFIG, NETWORK, build_network, make_run, write_config
from support import make_dataset

from jaxkd import runs, training
from jaxkd.data import Normalization

NORMALIZATION = Normalization(np.float32([0.5]), np.float32([0.25]))
CLASS = runs.NetworkConfig(**{**NETWORK, "image_shape": (8, 8, 1)})


def make_config(options, source="digits", **more):
    return runs.make_config(
        options, ["train"], CLASS, source, make_dataset(), NORMALIZATION, **more
    )


def test_a_config_is_read_as_it_was_written(tmp_path):
    options = {"seed": 5, "temperature": float("inf"), "data": {"image_size": 8}}
    config = make_config(options)
    runs.write_json(runs.RunFolder(tmp_path).config, config)
    read = runs.read_config(tmp_path)
    assert read == json.loads(json.dumps(config))
    assert read["options"]["temperature"] == "inf"
    assert read["dataset"]["image_size"] == 8
    assert read["network"] == {**NETWORK, "reused_features": None}


def test_a_dataset_in_a_file_is_recorded_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_config({}, "./q.npz")["dataset"]["source"] == str(tmp_path / "q.npz")
    assert make_config({}, "digits")["dataset"]["source"] == "digits"


@pytest.mark.parametrize(
    "stored, fingerprint, expected",
    [
        (32, "tfds:birds:1.0.0, size 32", 32),
        (None, "tfds:birds:1.0.0, size 32", 32),
        (None, "folder:0f3a, size 8, 9 of 99 rows, seed 0", 8),
        (None, "folder:0f3a, 9 of 99 rows, seed 0", None),
        (None, "npz:sha256:0f3a", None),
        (None, "size 7", None),
        (None, None, None),
    ],
)
def test_configs_of_older_versions_get_the_image_size(
    tmp_path, stored, fingerprint, expected
):
    config = copy.deepcopy(CONFIG)
    config["options"]["data"]["image_size"] = stored
    config["dataset"] = {"source": "photos", "fingerprint": fingerprint}
    write_config(tmp_path, config)
    read = runs.read_config(tmp_path)
    assert read["dataset"]["image_size"] == expected
    assert read["options"]["data"]["image_size"] == expected


def test_a_teacher_is_described_by_network_accuracy_and_contents(tmp_path):
    def describe(folder):
        loaded = runs.load_run(folder)
        frozen = training.freeze_teacher(loaded.module, loaded.normalization)
        return runs.describe_teacher(folder, 0, frozen)

    first = describe(make_run(tmp_path / "first"))
    assert first["network"] == NETWORK
    assert first["test_accuracy"] == 0.5
    assert describe(make_run(tmp_path / "moved")) == first
    other = describe(make_run(tmp_path / "other", seeds=(1,)))
    assert other["fingerprint"] != first["fingerprint"]
    (tmp_path / "other" / "summary.json").unlink()
    assert describe(tmp_path / "other")["test_accuracy"] is None


def test_options_without_effect_on_training_are_left_out():
    config = copy.deepcopy(CONFIG)
    config["options"] |= {"out": "run", "teacher": "t", "wandb": None, "epochs": 3}
    config["options"]["data"] |= {"cache_dir": "x", "subset": 9}
    assert runs.effective_options(config) == {
        "seed": 5,
        "batch_size": 16,
        "epochs": 3,
        "data": {"image_size": None, "subset": 9},
    }
    assert config["options"]["out"] == "run"


def test_lists_of_json_become_tuples_of_options():
    @dataclasses.dataclass
    class Options:
        milestones: tuple[float, ...]
        warmup: float

    stored = {"milestones": [0.5, 0.75], "warmup": 0.1, "of_a_newer_version": 1}
    assert runs.as_options(Options, stored) == Options((0.5, 0.75), 0.1)


def test_a_network_is_saved_as_a_run_folder(tmp_path):
    out = tmp_path / "run"
    runs.save_network(out, copy.deepcopy(CONFIG), build_network(), {"history": []})
    loaded = runs.load_run(out)
    assert loaded.network == CLASS
    assert loaded.step == 0
