import csv
import io
import json

import numpy as np
import pytest
from pictures import encode
from run_support import CONFIG, build_network, make_run
from scipy.special import softmax

from jaxkd import InvalidInputError, runs, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, pixels):
    folder = tmp_path_factory.mktemp("pictures")
    for i, each in enumerate(pixels):
        (folder / f"{i}.png").write_bytes(encode(each, "PNG"))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_run(folder, seeds=(3,))
    return folder


@pytest.fixture(scope="module")
def expected(pixels):
    """Probabilities by the network itself, normalized by hand as CONFIG says."""
    network = training.inference_view(build_network(3))
    images = (np.float32(pixels[..., None]) / 255 - 0.5) / 0.25
    return softmax(np.float64(network(images).logits), axis=1)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_probabilities_are_those_of_the_network(run, pictures, expected, batch_size):
    found = runs.predict(run, [pictures], batch_size=batch_size)
    names = CONFIG["class_names"]
    assert [each.file for each in found] == [
        str(pictures / f"{i}.png") for i in range(5)
    ]
    for each, shares in zip(found, expected, strict=True):
        order = np.argsort(-shares)
        assert [x.index for x in each.top] == order.tolist()
        assert [x.class_name for x in each.top] == [names[i] for i in order]
        np.testing.assert_allclose(
            [x.probability for x in each.top], shares[order], rtol=1e-4
        )
        assert (each.index, each.class_name) == (order[0], names[order[0]])


def test_a_run_without_names_numbers_its_classes(tmp_path, pictures):
    make_run(tmp_path / "run", config=CONFIG | {"class_names": None})
    (found,) = runs.predict(tmp_path / "run", [pictures / "0.png"])
    assert found.class_name == str(found.index)


def test_the_rows_of_the_table(run, pictures):
    found = runs.predict(run, [pictures])
    table = list(csv.DictReader(io.StringIO(runs.format_predictions(found, "csv"))))
    assert list(table[0]) == [
        *("file", "class", "index", "probability"),
        *("class_2", "probability_2", "class_3", "probability_3"),
        *("class_4", "probability_4"),
    ]
    for row, each in zip(table, found, strict=True):
        assert (row["file"], row["class"]) == (each.file, each.class_name)
        assert float(row["probability_3"]) == each.top[2].probability
        assert row["class_3"] == each.top[2].class_name


def test_the_lines_of_json(run, pictures):
    found = runs.predict(run, [pictures])
    lines = runs.format_predictions(found, "jsonl").splitlines()
    for line, each in zip(map(json.loads, lines), found, strict=True):
        assert line["file"] == each.file
        assert line["index"] == each.index
        top = {k: line[k] for k in ("class", "index", "probability")}
        assert line["top"][0] == top
        assert [x["index"] for x in line["top"]] == [x.index for x in each.top]


def test_the_chosen_trial_predicts(tmp_path, pictures):
    config = {**CONFIG, "options": {**CONFIG["options"], "trials": 2}}
    make_run(tmp_path / "run", config=config)
    with pytest.raises(InvalidInputError, match="trial"):
        runs.predict(tmp_path / "run", [pictures], trial=2)
