"""Run folders whose `config.json` cannot be right."""

import copy
import json
import os

import pytest
from run_support import CONFIG, make_run, write_config

from jaxkd import InvalidInputError, runs

BIG = 10**40
WRONG = [
    ("options", None, "an object"),
    ("options", [1], "an object"),
    ("options.seed", "x", "an integer"),
    ("options.seed", BIG, "an integer"),
    ("options.seed", True, "an integer"),
    ("options.trials", "three", "an integer from 1"),
    ("options.trials", 0, "an integer from 1"),
    ("options.teacher", {"a": 1}, "a string"),
    ("options.hkd", 5, "an object"),
    ("options.weights", [1, 2], "an object"),
    ("options.data", 7, "an object"),
    ("options.data.image_size", "big", "an integer from 1 to 2147483647, or null"),
    ("options.data.stream", "yes", "true or false"),
    ("options.data.randaugment", [1], "a number of operations and a magnitude"),
    ("options.data.random_resized_crop", [0.1], "two shares of the area"),
    ("network", "x", "an object"),
    ("network.model", ["mlp"], "a string"),
    ("network.width", "w", "an integer from 1"),
    ("network.width", BIG, "an integer from 1"),
    ("network.num_classes", -1, "an integer from 1"),
    ("network.num_classes", 4.0, "an integer from 1"),
    ("network.image_shape", [8, 8], "three integers"),
    ("network.image_shape", [BIG, 8, 1], "three integers"),
    ("network.compute_dtype", "int7", "one of float32, bfloat16"),
    ("normalization", [1], "an object"),
    ("normalization.mean", [float("nan")], "a list of finite numbers"),
    ("normalization.mean", [float("inf")], "a list of finite numbers"),
    ("normalization.mean", ["0.5"], "a list of finite numbers"),
    ("normalization.mean", [0.5, 0.5], "one number for each of the 1 channels"),
    ("normalization.std", [], "one number for each of the 1 channels"),
    ("normalization.std", [0.0], "positive"),
    ("normalization.std", [-0.2], "positive"),
    ("normalization.std", [1e-300], "positive"),
    ("dataset", 5, "an object"),
    ("dataset.source", 5, "a string, or null"),
    ("dataset.fingerprint", [1], "a string, or null"),
    ("dataset.image_size", "8", "an integer from 1"),
    ("dataset.train_split", 5, "a string, or null"),
    ("dataset.test_split", ["train"], "a string, or null"),
    ("dataset.background", 7, "a string, or null"),
    ("dataset.value_range", "x", "two finite numbers"),
    ("dataset.value_range", [0, "nan"], "two finite numbers"),
    ("class_names", 5, "a list of strings, or null"),
    ("class_names", [1, 2, 3, 4], "a list of strings, or null"),
    ("teacher", [1], "an object"),
    ("versions", "x", "an object"),
    ("command", ["jaxkd"], "a string"),
]


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *sections, name = path.split(".")
    inner = config
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = value
    return config


def without(path):
    config = copy.deepcopy(CONFIG)
    *sections, name = path.split(".")
    inner = config
    for section in sections:
        inner = inner[section]
    del inner[name]
    return config


@pytest.mark.parametrize("path, value, wanted", WRONG)
def test_an_entry_that_cannot_be_right_is_named_with_what_was_expected(
    tmp_path, path, value, wanted
):
    write_config(tmp_path, changed(path, value))
    with pytest.raises(InvalidInputError) as caught:
        runs.read_config(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'config.json'} is damaged: {path} is ")
    assert f"but it must be {wanted}" in text
    assert len(text) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    "config, says",
    [
        (changed("network.model", "resnet99"), r"network\.model: unknown model 'resn"),
        (changed("class_names", ["a"]), "class_names has 1 name, but network.num_cl"),
        (
            changed("network.num_classes", 7),
            "4 names, but network.num_classes is 7",
        ),
        (changed("teacher", {}), "it has no teacher.network"),
        *(
            (without(path), f"it has no {path}")
            for path in ("options", "network", "network.width", "dataset.source")
        ),
        ([], "must contain a JSON object, got list"),
        (None, "must contain a JSON object, got NoneType"),
    ],
)
def test_a_config_whose_parts_do_not_fit_is_refused(tmp_path, config, says):
    write_config(tmp_path, config)
    with pytest.raises(InvalidInputError, match=says):
        runs.read_config(tmp_path)


VALID = json.dumps(CONFIG)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "Expecting value"),
        (VALID[:-1].encode(), "Expecting"),
        (b"\xff\xfe{", "is not UTF-8"),
        (VALID.encode("utf-16"), "is not UTF-8"),
        (b"\0" * 50, "Expecting value"),
        (b"[" * 100_000, "too deeply nested"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "too deeply nested"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
        (VALID[:-1].encode() + b', "options": {}}', "key 'options' occurs twice"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path, content, says):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"config\.json is damaged: .*{says}"):
        runs.read_config(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json"])
@pytest.mark.parametrize(
    "make, says",
    [(os.mkdir, "it is a folder"), (os.mkfifo, "it is not a regular file")],
)
def test_what_is_no_file_is_refused_without_waiting(tmp_path, name, make, says):
    write_config(tmp_path, CONFIG)
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    read = {"config.json": runs.read_config, "summary.json": runs.read_summary}
    with pytest.raises(InvalidInputError, match=says):
        read.get(name, runs.read_metrics)(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        changed("network.compute_dtype", "bfloat16"),
        changed("network.width", None),
        changed("normalization.mean", [0]),
        changed("class_names", None),
        changed("options.data.randaugment", [2, 9.0]),
        changed("options.data.random_resized_crop", [0.08, 1.0]),
        changed("options.temperature", float("inf")),
        changed("dataset.train_split", "train[:90%]"),
        changed("of_a_newer_version", {"a": [1]}),
        *map(without, ("class_names", "command", "versions", "options.data")),
    ],
)
def test_what_versions_have_written_or_may_write_is_read(tmp_path, config):
    write_config(tmp_path, config)
    read = runs.read_config(tmp_path)
    assert read["network"] == config["network"]
    assert isinstance(read["versions"], dict)
    assert isinstance(read["command"], str)


@pytest.mark.parametrize(
    "config, says",
    [
        (without("normalization"), "it has no normalization"),
        (without("network.image_shape"), "it has no network.image_shape"),
        (changed("network.depth", 3), "network.depth is not known here"),
        (changed("network.width", 2**31 - 1), "its network cannot be built|GB|there"),
        (changed("network.image_shape", [8, 9, 1]), "is of another experiment"),
        (changed("network.reused_features", 7), "is of another|cannot be built"),
    ],
)
def test_a_network_is_loaded_only_as_it_was_saved(tmp_path, config, says):
    run = make_run(tmp_path / "run")
    write_config(run, config)
    with pytest.raises(InvalidInputError, match=says):
        runs.load_run(run)


def test_a_home_folder_of_no_user_is_refused():
    for read in (runs.load_run, runs.read_config, runs.read_metrics):
        with pytest.raises(InvalidInputError, match="home"):
            read("~nosuchuser/run")
