"""Metrics and summaries that cannot be right, or do not belong together."""

import copy
import json

import pytest
from run_support import CONFIG, HISTORY, write_config

from jaxkd import InvalidInputError, runs

FIRST, SECOND = HISTORY
SUMMARY = runs.summarize(HISTORY, seed=5, data_seed=0)
TRIALS = SUMMARY["trials"]
LAST = TRIALS["test_accuracy_last"]


def write(run, *, records=HISTORY, summary=None):
    """A run folder without checkpoints."""
    write_config(run, CONFIG)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (run / "metrics.jsonl").write_text(lines)
    if summary is not None:
        (run / "summary.json").write_text(json.dumps(summary))
    return run


@pytest.mark.parametrize(
    "record, says",
    [
        ([1], "it is [1], but it must be|must contain a JSON object, got list"),
        (7, "must contain a JSON object, got int"),
        ({"epoch": 1}, "it has no step"),
        ({"step": "x"}, "step is .x., but it must be a positive integer"),
        ({"step": 0}, "step is 0"),
        ({"step": 3, "epoch": 1.5}, "epoch is 1.5"),
        (
            {"step": 3, "test/accuracy": 9.9e9},
            "test/accuracy is 99.*from 0 to 1",
        ),
        ({"step": 3, "test/accuracy": -0.1}, "test/accuracy is -0.1"),
        ({"step": 3, "train/accuracy": 1.1}, "train/accuracy is 1.1"),
        (
            {"step": 3, "test/loss": "big"},
            "test/loss is .big., but it must be",
        ),
        ({"step": 3, "images_per_second": -1.0}, "images_per_second is -1"),
        ({"step": 3, "trials": None}, "trials is null"),
        ({"step": 3, "trials": {"test/accuracy": 1}}, "trials.test/accuracy is 1"),
        ({"step": 3, "trials": {"test/accuracy": [2]}}, "trials.test/accuracy is 2"),
        ({"step": 3, "trials": {"a": [1], "b": [1, 2]}}, "different numbers"),
        (
            {"step": 3, "test/loss": 1.0, "trials": {"test/accuracy": [1]}},
            "trials has no test/loss",
        ),
    ],
)
def test_a_record_that_cannot_be_right_is_named_by_its_line(tmp_path, record, says):
    write(tmp_path, records=[{"step": 1}, record])
    with pytest.raises(InvalidInputError, match=f"line 2, is damaged: .*({says})"):
        runs.read_metrics(tmp_path)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"\xff\x00" * 9, "is not UTF-8"),
        (b'{"step": 1}\n{"st\n{"step": 3}\n', "line 2, is damaged"),
        (b'{"step": 3}\n{"step": 3}\n', "larger than in the line before, 3"),
        (b'{"step": 3}\n{"step": 2}\n', "larger than in the line before, 3"),
        (b'{"step": 3, "step": 4}\n', "occurs twice"),
    ],
)
def test_metrics_that_are_no_records_in_order_are_refused(tmp_path, content, says):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(InvalidInputError, match=says):
        runs.read_metrics(tmp_path)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"test_accuracy_last": 9.9e9}, "test_accuracy_last is 99.*from 0 to 1"),
        ({"test_accuracy_last": 0.3}, "0.5, the mean of trials.test_accuracy_last"),
        ({"epochs": "x"}, "epochs is"),
        ({"images_per_second": None}, "images_per_second is null"),
        ({"trials": None}, "trials is null"),
        ({"trials": {}}, "it has no trials.seeds"),
        ({"trials": TRIALS | {"seeds": "x"}}, "trials.seeds is"),
        ({"trials": TRIALS | {"seeds": [5, 6]}}, "1 values, but.* 2"),
        (
            {"trials": TRIALS | {"seeds": [7]}},
            r"must be \[5\], as in config",
        ),
        (
            {
                "trials": SUMMARY["trials"]
                | {"test_accuracy_last": LAST | {"mean": 0.2}}
            },
            "trials.test_accuracy_last.mean is 0.2",
        ),
        ({"steps": 77}, "ends at step 6, but summary.json is of a run of 77 steps"),
        ({"epochs": 8}, "ends at epoch 2, but summary.json is of a run of 8 epochs"),
    ],
)
def test_a_summary_that_cannot_be_that_of_the_run_is_refused(tmp_path, changes, says):
    write(tmp_path, summary=copy.deepcopy(SUMMARY) | changes)
    for read in (runs.read_summary, runs.read_metrics, runs.read_history):
        with pytest.raises(InvalidInputError, match=says):
            read(tmp_path)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"data_seed": 3}, "data_seed is 0, but it must be 3, as in config.json"),
        ({"seed": 6}, r"trials.seeds is \[5\], but it must be \[6\], as in config"),
    ],
)
def test_a_summary_of_other_options_is_of_another_run(tmp_path, options, says):
    write(tmp_path, summary=SUMMARY)
    write_config(tmp_path, CONFIG | {"options": CONFIG["options"] | options})
    with pytest.raises(InvalidInputError, match=says):
        runs.read_summary(tmp_path)


def test_a_summary_of_other_accuracies_is_of_another_run(tmp_path):
    other = [FIRST, SECOND | {"test/accuracy": 0.75}]
    write(tmp_path, records=other, summary=SUMMARY)
    with pytest.raises(InvalidInputError, match=r"must be \[0\.75\] as in metrics"):
        runs.read_summary(tmp_path)


def test_half_of_the_metrics_of_a_finished_run_is_refused_with_the_remedy(tmp_path):
    write(tmp_path, records=[FIRST], summary=SUMMARY)
    with pytest.raises(InvalidInputError, match="Resume the run with --resume, which"):
        runs.read_history(tmp_path)


@pytest.mark.parametrize("summary", [SUMMARY, {"epochs": 2}, None])
@pytest.mark.parametrize("records", [HISTORY, []])
def test_what_belongs_together_is_read(tmp_path, summary, records):
    write(tmp_path, records=records, summary=summary)
    assert runs.read_metrics(tmp_path) == records
    read = runs.read_summary(tmp_path)
    assert read == (None if summary is None else {"data_seed": 0} | summary)


@pytest.mark.parametrize("name", ["epoch", "images_per_second"])
def test_a_history_has_what_its_page_shows(tmp_path, name):
    record = {key: value for key, value in FIRST.items() if key != name}
    write(tmp_path, records=[record])
    with pytest.raises(InvalidInputError, match=f"line 1, .* has no {name}"):
        runs.read_history(tmp_path)


def test_a_summary_of_another_best_epoch_is_of_another_run(tmp_path):
    records = [
        FIRST | {"validation/accuracy": 0.5},
        SECOND | {"validation/accuracy": 0.4},
    ]
    summary = runs.summarize(records, seed=5, data_seed=0)
    write(tmp_path, records=records, summary=summary)
    assert runs.read_summary(tmp_path) == summary
    summary["trials"] = summary["trials"] | {"best_validation_epochs": [2]}
    write(tmp_path, records=records, summary=summary)
    with pytest.raises(InvalidInputError, match=r"is \[2\], but it must be \[1\]"):
        runs.read_summary(tmp_path)
