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


def validated(prefix=""):
    """The records of two trials, which are best by validation in epochs 1 and 2."""
    history = []
    for record, values in zip(TRIALS, ([0.7, 0.1], [0.7, 0.2]), strict=True):
        name = f"validation/{prefix}accuracy"
        trials = record["trials"] | {name: values}
        history.append(record | {name: sum(values) / 2, "trials": trials})
    return history


def test_the_best_validation_accuracy_chooses_the_epoch_of_each_trial(tmp_path):
    summary = runs.write_summary(tmp_path, validated(), seed=0, data_seed=0)
    assert summary["trials"]["best_validation_epochs"] == [1, 2]
    assert summary["trials"]["validation_accuracy_best"]["values"] == [0.7, 0.2]
    chosen = summary["trials"]["test_accuracy_at_best_validation"]["values"]
    assert chosen == [0.9, 0.8]
    assert summary["test_accuracy_at_best_validation"] == pytest.approx(0.85)
    assert "(epochs 1, 2)" in runs.describe_accuracies(summary)
    assert runs.read_summary(tmp_path) == summary


def test_without_validation_images_nothing_is_chosen():
    summary = runs.summarize(TRIALS, seed=0, data_seed=0)
    assert not any("validation" in name for name in (*summary, *summary["trials"]))


def test_top_5_is_that_of_the_last_epoch_and_of_the_average_if_there_is_one():
    record = {"epoch": 1, "step": 3, "images_per_second": 1.0, "test/accuracy": 0.5}
    record |= {"test/top5_accuracy": 0.8}
    summary = runs.summarize([record], seed=0, data_seed=0)
    assert summary["test_top5_accuracy_last"] == 0.8
    record |= {"test/ema_accuracy": 0.6, "test/ema_top5_accuracy": 0.9}
    summary = runs.summarize([record], seed=0, data_seed=0)
    assert summary["test_top5_accuracy_last"] == 0.9
    assert "top-5 90.00%" in runs.describe_accuracies(summary)


def test_a_run_that_stopped_early_says_so():
    assert "stopped_early" not in runs.summarize(TRIALS, seed=0, data_seed=0)
    summary = runs.summarize(TRIALS, seed=0, data_seed=0, stopped_early=True)
    assert summary["stopped_early"] is True


def test_a_record_of_one_trial_has_its_values():
    assert runs.select_trial(TRIALS[0], 1)["test/accuracy"] == 0.5
    alone = {"epoch": 3, "test/accuracy": 0.5}
    assert runs.select_trial(alone, 0) == alone


def test_a_run_that_has_not_finished_has_no_summary(tmp_path):
    assert runs.read_summary(tmp_path) is None
