"""The results of a run."""

import json

import pytest

from jaxkd import runs

TRIALS = [
    {"epoch": epoch, "step": 3 * epoch, "images_per_second": 100.0}
    | {"test/accuracy": sum(values) / 2, "trials": {"test/accuracy": values}}
    for epoch, values in ((1, [0.9, 0.5]), (2, [0.6, 0.8]))
]


def test_a_single_value_has_no_deviation():
    single = {"mean": 0.5, "std": None, "values": [0.5]}
    assert runs.mean_and_deviation([0.5]) == single
    assert runs.format_accuracy(single) == "50.00%"
    several = runs.mean_and_deviation([0.5, 0.7])
    assert several["std"] == pytest.approx(0.1 * 2**0.5)
    assert runs.format_accuracy(several) == "60.00 ± 14.14%"


def test_the_best_epoch_is_that_of_each_trial(tmp_path):
    summary = runs.write_summary(tmp_path, TRIALS, seed=3, data_seed=0)
    assert summary["trials"]["seeds"] == [3, 4]
    assert summary["trials"]["test_accuracy_last"]["values"] == [0.6, 0.8]
    assert summary["trials"]["test_accuracy_best"]["values"] == [0.9, 0.8]
    assert summary["test_accuracy_best"] == pytest.approx(0.85)
    assert runs.read_summary(tmp_path) == summary
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_with_a_moving_average_the_results_are_those_of_the_average():
    history = [{**record, "test/ema_accuracy": 0.95} for record in TRIALS]
    for record in history:
        record["trials"] = record["trials"] | {"test/ema_accuracy": [0.94, 0.96]}
    summary = runs.summarize(history, seed=0, data_seed=0)
    assert summary["test_accuracy_last"] == pytest.approx(0.95)
    assert summary["live_test_accuracy_last"] == pytest.approx(0.7)


def test_a_record_of_one_trial_has_its_values():
    assert runs.select_trial(TRIALS[0], 1)["test/accuracy"] == 0.5
    alone = {"epoch": 3, "test/accuracy": 0.5}
    assert runs.select_trial(alone, 0) == alone


def test_a_run_that_has_not_finished_has_no_summary(tmp_path):
    assert runs.read_summary(tmp_path) is None
