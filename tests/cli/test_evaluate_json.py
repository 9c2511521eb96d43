import json

import numpy as np
import pytest
from cli_arguments import refusal
from scipy.special import log_softmax
from sklearn import metrics

from jaxkd import cli, runs, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def results(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "new" / "results.json"
    cli.main(["evaluate", str(teacher), "--json", str(out)])
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def logits(teacher, quadrants):
    """The network's logits for the test images, and their classes."""
    loaded = runs.load_run(teacher)
    network = training.inference_view(loaded.module)
    with np.load(quadrants) as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    mean, std = loaded.normalization
    inputs = (np.float32(images) / 255 - np.asarray(mean)) / np.asarray(std)
    return np.asarray(network(inputs).logits, np.float64), labels


def test_the_results_are_those_of_scikit_learn(results, logits):
    values, labels = logits
    predicted = values.argmax(axis=1)
    expected = metrics.confusion_matrix(labels, predicted, labels=range(4))
    assert results["confusion"] == expected.tolist()
    report = metrics.classification_report(
        labels, predicted, output_dict=True, zero_division=np.nan
    )
    assert results["accuracy"] == pytest.approx(report["accuracy"])
    for i, found in enumerate(results["classes"]):
        wanted = report[str(i)]
        assert found["support"] == wanted["support"]
        for name in ("precision", "recall"):
            share = np.nan if found[name] is None else found[name]
            assert share == pytest.approx(wanted[name], nan_ok=True)


def test_the_loss_is_the_mean_cross_entropy(results, logits):
    values, labels = logits
    nats = -log_softmax(values, axis=1)[np.arange(len(labels)), labels]
    assert results["loss"] == pytest.approx(nats.mean(), rel=1e-4)
    assert results["num_examples"] == len(labels)
    assert results["top5_accuracy"] is None  # of four classes


def test_network_and_data_can_be_identified(results, teacher):
    config = runs.read_config(teacher)
    assert results["dataset"]["fingerprint"] == config["dataset"]["fingerprint"]
    loaded = runs.load_run(teacher)
    frozen = training.freeze_teacher(loaded.module, loaded.normalization)
    fingerprint = runs.describe_teacher(teacher, 0, frozen)["fingerprint"]
    assert results["network"]["fingerprint"] == fingerprint
    assert results["class_names"] == list(loaded.class_names)


def test_stdout_has_nothing_but_the_results(teacher, results, capsys):
    cli.main(["evaluate", str(teacher), "--json", "-"])
    captured = capsys.readouterr()
    assert json.loads(captured.out) == results
    assert "test accuracy" in captured.err


def test_what_exists_is_not_overwritten(teacher, tmp_path, capsys):
    (tmp_path / "x.json").write_text("precious")
    line = refusal(["evaluate", teacher, "--json", tmp_path / "x.json"], capsys)
    assert "exists already" in line
    assert (tmp_path / "x.json").read_text() == "precious"
