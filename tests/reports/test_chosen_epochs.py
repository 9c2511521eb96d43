"""Comparisons of runs that keep the best epoch, stop early, or record top-5."""

import json

import pytest
from comparison_support import make_run, rows

from jaxkd import reports, runs

pytestmark = pytest.mark.usefixtures("without_figures")


def validated(root, name, method, accuracies, validation, *, top5=None, **options):
    """A run of one trial that keeps the network with the best validation accuracy."""
    data = {"validation": 0.2}
    options = {"keep": "best", "data": data, **options}
    values = [[accuracy] for accuracy in accuracies]
    folder = make_run(root, name, method, values, **options)
    file = folder / "metrics.jsonl"
    history = [json.loads(line) for line in file.read_text().splitlines()]
    for number, (record, value) in enumerate(zip(history, validation, strict=True)):
        added = {"validation/accuracy": value}
        if top5 is not None:
            added["test/top5_accuracy"] = top5[number]
        record |= added
        record["trials"] |= {metric: [x] for metric, x in added.items()}
    file.write_text("".join(json.dumps(record) + "\n" for record in history))
    seed = options.get("seed", 0)
    summary = runs.summarize(history, seed=seed, data_seed=0)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_the_epoch_of_the_best_validation_accuracy_is_reported(tmp_path):
    made = [
        validated(tmp_path, "a", "student", [0.5, 0.6], [0.9, 0.1]),
        validated(tmp_path, "b", "kd", [0.7, 0.6], [0.9, 0.1], top5=[0.8, 0.85]),
        validated(tmp_path, "c", "hkd+kd", [0.8, 0.6], [0.9, 0.1]),
    ]
    text = reports.write_comparison(made, tmp_path / "out")
    assert "| student alone | 50.00 |" in text
    assert "| kd | 70.00 | 50.00 |" in text  # (80 - 70) / (70 - 50)
    assert "Of runs with --keep best, the accuracy is that of the epoch" in text
    found = rows(tmp_path / "out")
    assert float(found["kd"]["best_validation_mean"]) == 0.7
    assert float(found["kd"]["last_mean"]) == 0.6
    assert float(found["kd"]["top5_mean"]) == 0.85


def test_runs_without_validation_and_top_5_have_empty_cells(tmp_path, four):
    text = reports.write_comparison(four, tmp_path / "out")
    assert "--keep best" not in text
    for row in rows(tmp_path / "out").values():
        for name in ("top5", "best_validation"):
            assert row[f"{name}_mean"] == row[f"{name}_std"] == ""


def test_trials_that_stopped_at_different_epochs_are_one_experiment(tmp_path):
    more = {"patience": 1}
    made = [
        validated(tmp_path, "a", "kd", [0.7, 0.6], [0.9, 0.1], seed=0, **more),
        validated(
            tmp_path, "b", "kd", [0.5, 0.6, 0.9], [0.1, 0.9, 0.2], seed=1, **more
        ),
    ]
    reports.write_comparison(made, tmp_path / "out")
    found = rows(tmp_path / "out")["kd"]
    assert found["seeds"] == "0 1"
    assert float(found["best_validation_mean"]) == pytest.approx((0.7 + 0.6) / 2)
    assert float(found["last_mean"]) == pytest.approx((0.6 + 0.9) / 2)


def test_a_run_that_keeps_the_best_without_its_accuracy_is_damaged(tmp_path):
    folder = make_run(tmp_path, "a", "kd", [[0.7], [0.6]], keep="best")
    with pytest.raises(ValueError, match="no accuracy at the best validation"):
        reports.write_comparison([folder], tmp_path / "out")


def test_a_held_out_part_leaves_the_test_set_as_it_is():
    from jaxkd.reports._comparison_runs import _test_set

    whole = "folder:0a, size 8"
    for chosen in (
        ", 9 of 99 rows, seed 0",
        ", 9 of 99 rows held out, seed 0",
        ", 50 of 99 rows, seed 0, 5 of 50 rows held out, seed 0",
    ):
        assert _test_set(whole + chosen) == whole
