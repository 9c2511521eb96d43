import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from experiments.holistic import (
    _cells,
    _evidence,
    _lessons,
    _methods,
    _probe,
    _report,
)
from experiments.holistic.__main__ import main
from jaxkd import data

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "when-hkd-pays.md").read_text()


@pytest.fixture(scope="module")
def evidence():
    return _evidence.load()


@pytest.mark.parametrize("name", _report.TABLES)
def test_the_page_shows_the_tables_of_the_stored_numbers(name, evidence):
    assert _report.TABLES[name](evidence) in PAGE


def test_the_page_says_where_the_numbers_are_from(evidence):
    assert evidence.provenance in PAGE


def test_every_figure_is_on_the_page_and_can_be_drawn_again(tmp_path):
    main(["--draw", str(tmp_path)])
    for name in _report.FIGURES:
        assert f"(images/holistic_{name}.png)" in PAGE
        drawn, kept = (
            (folder / f"holistic_{name}.png").stat().st_size
            for folder in (tmp_path, ROOT / "docs/images")
        )
        assert drawn == pytest.approx(kept, rel=0.2)  # other fonts, other bytes


def test_every_cell_of_students_has_all_seeds(evidence):
    counts = {
        len(cell["accuracy"])
        for name, cell in evidence.cells.items()
        if not name.startswith("teacher")
    }
    assert counts == {_cells.SEEDS}


def test_every_cell_uses_the_best_of_the_settings_that_were_tried(evidence):
    for cell in _cells.cells():
        if cell.name not in evidence.cells:
            continue
        tried = evidence.tuning[cell.tuned_as.name]
        best = max(tried, key=lambda each: each["accuracy"])
        used = evidence.cells[cell.name]
        assert used["learning_rate"] == best["learning_rate"]
        assert used["value"] == best["value"]


def test_every_method_chooses_among_as_many_settings():
    counts = {len(method.settings) for method in _methods.METHODS.values()}
    assert counts == {6}


@pytest.mark.parametrize("name", _methods.METHODS)
def test_every_method_can_be_built_with_all_its_settings(name):
    method = _methods.METHODS[name]
    for setting in method.settings:
        method.build(setting.value, 40)
        assert method.decay(setting.value) >= 0


LABELS = np.random.default_rng(0).integers(0, 10, 3000)


def test_as_many_labels_of_each_class_remain_as_the_scenario_says():
    kept = _lessons.student_labels(LABELS, _lessons.Scenario(labels_per_class=7))
    labeled = kept != _lessons.UNLABELED
    np.testing.assert_array_equal(np.bincount(kept[labeled]), [7] * 10)
    np.testing.assert_array_equal(kept[labeled], LABELS[labeled])


def test_a_share_of_the_labels_becomes_any_other_class():
    noisy = _lessons.student_labels(LABELS, _lessons.Scenario(noise=0.4))
    wrong = noisy != LABELS
    assert wrong.mean() == pytest.approx(0.4, abs=3 * (0.4 * 0.6 / 3000) ** 0.5)
    shifts = np.bincount((noisy - LABELS)[wrong] % 10, minlength=10)
    assert shifts[0] == 0
    assert stats.chisquare(shifts[1:]).pvalue > 0.001


def test_all_methods_get_the_same_labels():
    scenario = _lessons.Scenario(labels_per_class=7, noise=0.0)
    first, again = (_lessons.student_labels(LABELS, scenario) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def _clusters(count):
    random = np.random.default_rng(count)
    labels = random.integers(5, 9, count)
    centers = np.random.default_rng(1).normal(0, 1, (10, 6))
    embedding = centers[labels] + random.normal(0, 1, (count, 6))
    return embedding.astype(np.float32), labels


def test_recall_is_the_accuracy_of_the_nearest_other_image():
    embedding, labels = _clusters(300)
    nearest = KNeighborsClassifier(1, metric="cosine")
    expected = cross_val_predict(nearest, embedding, labels, cv=LeaveOneOut())
    assert _probe.recall(embedding, labels) == pytest.approx(
        (expected == labels).mean(), abs=1e-9
    )


def test_the_linear_probe_is_that_of_scikit_learn():
    train, train_labels = _clusters(400)
    test, test_labels = _clusters(401)
    mean, scale = train.mean(0), train.std(0)
    # Its penalty is a half of the squared norm over C, beside the sum over examples.
    expected = LogisticRegression(C=1 / (2 * 1e-4 * len(train)), tol=1e-8, max_iter=999)
    expected.fit((train - mean) / scale, train_labels)
    found = _probe.linear(train, train_labels, test, test_labels)
    assert found == pytest.approx(
        expected.score((test - mean) / scale, test_labels), abs=1e-9
    )


def test_the_interval_is_that_of_the_paired_differences_by_student():
    one, other = np.random.default_rng(0).normal(0, 1, (2, 5))
    found = _evidence.paired(one, other)
    # 2.7764 is the quantile for five pairs in printed tables.
    half = 2.7764 * np.std(one - other, ddof=1) / 5**0.5
    assert found.mean == pytest.approx((one - other).mean())
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), rel=1e-4
    )


def test_finished_cells_are_gathered_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_evidence, "RESULTS", tmp_path / "results.json")
    cell = {"learning_rate": 0.05, "value": 1.0, "accuracy": [0.123456789, 0.5]}
    tried = [{"learning_rate": 0.05, "value": 1.0, "accuracy": 0.75}]
    (tmp_path / "cell; MLP; all labels; KD.json").write_text(json.dumps(cell))
    (tmp_path / "tuning; MLP; all labels; KD.json").write_text(
        json.dumps({"tried": tried})
    )
    main(["--work", str(tmp_path), "--gather", "here"])
    again = _evidence.load()
    assert again.provenance == "here"
    assert again.tuning == {"MLP; all labels; KD": tried}
    found = again.values("MLP", "all labels", "KD", "accuracy")
    np.testing.assert_allclose(found, [12.346, 50])


@pytest.fixture
def small_dataset(monkeypatch):
    """Replace the images by 400 of noise, and the teacher by one that knows them."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (400, 28, 28, 1)).astype(np.uint8)
    split = data.Split(images, np.arange(400) % 10)
    whole = data.ImageDataset("noise", split, split, num_classes=10)
    answers = _lessons.Outputs(
        5 * np.eye(10, dtype=np.float32)[split.labels],
        random.normal(size=(400, 16)).astype(np.float32),
    )
    both = _lessons.Answers(answers, answers)
    monkeypatch.setattr(_lessons.data, "load", lambda *a, **k: whole)
    monkeypatch.setattr(_lessons, "_teacher", lambda *a: both)
    monkeypatch.setattr(_lessons, "VALIDATION", 100)
    monkeypatch.setattr(_cells, "EPOCHS", 1)
    monkeypatch.setattr(_cells, "TUNING_EPOCHS", 1)
    monkeypatch.setattr(_cells, "SEEDS", 2)
    monkeypatch.setattr(_methods, "LEARNING_RATES", (0.003,))
    _cells._lesson.cache_clear()
    yield
    _cells._lesson.cache_clear()


def test_a_cell_is_tuned_measured_and_not_repeated(small_dataset, tmp_path, capsys):
    name = "MLP; 10 labels; alone"
    arguments = ["--work", str(tmp_path), "--measure", "--only", name]
    main(arguments)
    cell = json.loads((tmp_path / f"cell; {name}.json").read_text())
    assert len(cell["accuracy"]) == len(cell["recall"]) == 2
    file = tmp_path / "tuning; MLP; 100 labels; alone.json"
    assert len(json.loads(file.read_text())["tried"]) == 3
    teacher = json.loads((tmp_path / "cell; teacher; 10 labels; .json").read_text())
    assert teacher["accuracy"] == [1.0]
    capsys.readouterr()
    main(arguments)
    assert capsys.readouterr().out == ""
