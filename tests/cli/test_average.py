"""``--ema``: which of a run's two networks the other commands take, and say."""

import json
import shutil

import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from flax import nnx
from support import assert_bitwise_equal

from jaxkd import cli, runs

DECAY = ("--ema", "0.9")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, quadrants):
    """A run of a network and its average, with a report."""
    out = tmp_path_factory.mktemp("runs") / "averaged"
    cli.main([*train_arguments(quadrants, out, *DECAY), "--report"])
    return out


def last(run):
    return runs.read_metrics(run / "metrics.jsonl")[-1]


def state(run):
    return nnx.state(runs.load_network(run).module)


@pytest.mark.slow
def test_evaluate_takes_the_average_and_says_so(averaged, teacher, capsys):
    cli.main(["evaluate", str(averaged)])
    printed, record = capsys.readouterr().out, last(averaged)
    assert "mlp (step 9, averaged weights) on q" in printed
    assert f"test accuracy {record['test/ema_accuracy']:.2%}" in printed
    assert f"loss {record['test/ema_loss']:.4f} nats" in printed
    assert f"{record['test/ema_loss']:.4f}" != f"{record['test/loss']:.4f}"
    cli.main(["evaluate", str(teacher)])
    assert "mlp (step 9) on q" in capsys.readouterr().out


@pytest.mark.slow
def test_export_writes_the_average_and_says_so(tmp_path, averaged, capsys):
    out = tmp_path / "arrays"
    cli.main(["export", str(averaged), "--format", "orbax", "--out", str(out)])
    assert "mlp (step 9, averaged weights) is in" in capsys.readouterr().out


@pytest.mark.slow
def test_the_summary_is_of_the_average_with_the_other_beside_it(averaged):
    summary, record = (
        json.loads((averaged / "summary.json").read_text()),
        last(averaged),
    )
    assert summary["test_accuracy_last"] == record["test/ema_accuracy"]
    assert summary["live_test_accuracy_last"] == record["test/accuracy"]
    assert summary["trials"]["live_test_accuracy_last"]["values"] == [
        record["test/accuracy"]
    ]


@pytest.mark.slow
def test_the_report_shows_both_and_says_which_network_it_asks(averaged):
    page = (averaged / "report.html").read_text()
    assert page.count("test, averaged weights") >= 1
    assert "(step 9, averaged weights)" in page


@pytest.mark.slow
def test_the_network_trained_is_that_of_a_run_without(averaged, teacher):
    ours, theirs = (
        [record["test/loss"] for record in runs.read_metrics(run / "metrics.jsonl")]
        for run in (averaged, teacher)
    )
    assert ours == theirs


@pytest.mark.slow
def test_the_average_teaches(tmp_path, averaged, teacher_of):
    teacher = teacher_of(distill_arguments(averaged, tmp_path / "run"))
    assert_bitwise_equal(teacher, state(averaged))


# tests/training/step/test_moving_average.py shows the same of the loop.
@pytest.mark.slow
def test_it_resumes_to_the_same_average(tmp_path, quadrants, averaged):
    run = shutil.copytree(averaged, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "9")
    cli.main(train_arguments(quadrants, run, *DECAY, "--resume"))
    assert_bitwise_equal(state(run), state(averaged))
    assert last(run)["test/ema_loss"] == last(averaged)["test/ema_loss"]


@pytest.mark.parametrize("value", ["0", "1", "nan"])
def test_a_decay_out_of_range_is_refused(tmp_path, quadrants, capsys, value):
    out = tmp_path / "run"
    line = refusal(train_arguments(quadrants, out, "--ema", value), capsys)
    assert "--ema must lie between 0 and 1" in line
    assert not out.exists()


@pytest.mark.slow
def test_another_decay_is_no_continuation(tmp_path, quadrants, averaged, capsys):
    run = shutil.copytree(averaged, tmp_path / "run")
    line = refusal(train_arguments(quadrants, run, "--resume"), capsys)
    assert ": ema was 0.9, is None (the average is part of the state)" in line
