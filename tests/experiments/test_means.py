import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics

from experiments.means import STUDIES, _scores, _students, drift, offsets
from experiments.means import _study as study_module
from experiments.means.__main__ import main
from experiments.means._optimizers import ADAM, KEPT, SGD, SPLIT

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "theory-in-practice.md").read_text()
STORED = [
    pytest.param(study, path.stem.removeprefix(f"{study.name}_"), id=path.stem)
    for study in STUDIES.values()
    for path in sorted(study_module.RESULTS.glob(f"{study.name}_*.json"))
]
every_result = pytest.mark.parametrize("study, dataset", STORED)


def test_the_default_dataset_of_every_study_is_stored():
    assert {(x.values[0].name, "digits") for x in STORED} >= {
        (name, "digits") for name in STUDIES
    }


@every_result
def test_the_page_shows_the_table_and_where_it_is_from(study, dataset):
    evidence = study.load(dataset)
    assert study.table(evidence) in PAGE
    assert evidence.provenance in PAGE
    assert f"python -m experiments.means {study.name}" in PAGE


@every_result
def test_every_setting_has_the_same_number_of_students(study, dataset):
    cells = study.load(dataset).cells
    counts = {len(cell["accuracy"]) for cell in cells.values()}
    assert len(counts) == 1
    assert counts.pop() >= 5


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_figure_is_on_the_page_and_can_be_drawn_again(study, tmp_path):
    name = f"{study.name}_digits.png"
    assert f"(images/{name})" in PAGE
    main([study.name, "--draw", str(tmp_path)])
    drawn, kept = (
        (folder / name).stat().st_size for folder in (tmp_path, ROOT / "docs/images")
    )
    assert drawn == pytest.approx(kept, rel=0.2)  # other fonts, other bytes


def test_what_is_saved_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "RESULTS", tmp_path)
    study = STUDIES["drift"]
    cells = {"a": {"x": np.array([0.123456, 1])}, "b": {"y": np.array([2.0])}}
    study.save(study_module.Evidence("here", "digits", 0.5, cells))
    again = study.load("digits")
    assert (again.provenance, again.teacher, list(again.cells)) == (
        *("here", 0.5),
        ["a", "b"],
    )
    np.testing.assert_array_equal(again.cells["a"]["x"], [0.12346, 1])


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (200, 6)) + 3


def test_the_scores_are_those_of_scikit_learn(logits):
    labels = np.random.default_rng(1).integers(0, 6, 200)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert _scores.nll(logits, labels) == pytest.approx(metrics.log_loss(labels, p))
    known, unknown = logits[:150], logits[150:] - 1
    scores = np.log(np.exp(np.concatenate([known, unknown])).sum(1))
    expected = 100 * metrics.roc_auc_score(np.arange(200) < 150, scores)
    assert _scores.energy_auroc(known, unknown) == pytest.approx(expected)


def test_the_calibration_error_is_that_of_its_definition(logits):
    labels = np.random.default_rng(1).integers(0, 6, 200)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == labels
    bins = np.ceil(confidence * 15)
    gaps = [
        abs(confidence[bins == b].sum() - right[bins == b].sum())
        for b in np.unique(bins)
    ]
    assert _scores.ece(logits, labels) == pytest.approx(100 * sum(gaps) / 200)


def trained(rule, loss, steps=30):
    """The logits of a linear classifier after some steps, from class sums of zero."""
    rng = np.random.default_rng(0)
    x, teacher = rng.normal(size=(40, 5)), rng.normal(0, 3, (40, 4))
    start = rng.normal(size=(5, 4))
    params = {
        "classifier": {
            "kernel": jnp.asarray(start - start.mean(1, keepdims=True)),
            "bias": jnp.zeros(4, jnp.float64),
        }
    }
    optimizer = rule.build(optax.constant_schedule(1.0))

    def logits(params):
        classifier = params["classifier"]
        return x @ classifier["kernel"] + classifier["bias"][None]

    def objective(params):
        return loss(logits(params), teacher)

    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(logits(params))


def distillation(student, teacher):
    difference = student - teacher
    return 0.5 * jnp.square(difference - difference.mean(-1, keepdims=True)).mean()


def matching(student, teacher):
    return 0.5 * jnp.square(student - teacher + 1.0).mean()


@pytest.fixture
def wide():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("rule", [SGD, KEPT, SPLIT], ids=lambda rule: rule.name)
def test_rules_that_keep_class_sums_keep_the_mean_logit(rule):
    np.testing.assert_allclose(trained(rule, distillation).mean(-1), 0, atol=1e-12)


@pytest.mark.usefixtures("wide")
def test_kept_class_sums_change_no_prediction_of_distillation_but_of_matching():
    softmax = [jax.nn.softmax(trained(rule, distillation)) for rule in (ADAM, KEPT)]
    np.testing.assert_allclose(*softmax, atol=1e-12)
    assert np.abs(trained(ADAM, distillation).mean(-1)).max() > 1e-2
    softmax = [jax.nn.softmax(trained(rule, matching)) for rule in (ADAM, KEPT)]
    assert np.abs(softmax[0] - softmax[1]).max() > 1e-4


@pytest.mark.slow
def test_studies_can_be_measured(monkeypatch):
    monkeypatch.setattr(_students, "TEACHER_EPOCHS", 1)
    monkeypatch.setattr(_students, "STUDENT_EPOCHS", 1)
    for module in (offsets, drift):
        monkeypatch.setattr(module, "RULES", (SGD,))
    monkeypatch.setattr(offsets, "OFFSETS", (5.0,))
    teacher, cells = offsets.measure("digits", 2)
    assert 0 <= teacher <= 1
    assert len(cells) == len(offsets.METHODS)
    _, cells = drift.measure("digits", 2)
    assert len(cells) == len(drift.OBJECTIVES)
    for cell in cells.values():
        np.testing.assert_allclose(cell["nll"], cell["nll_centered"], rtol=1e-10)


def test_provenance_names_commit_hardware_and_date():
    for parameter in STORED:
        study, dataset = parameter.values
        text = study.load(dataset).provenance
        assert re.search(r"commit [0-9a-f]{7}, .*\d{4}-\d\d-\d\d", text)
