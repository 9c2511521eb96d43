import json
import shutil
import statistics

import numpy as np
import orbax.checkpoint as ocp
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from flax import nnx
from support import assert_bitwise_equal, build_mlp

from jaxkd import cli, runs, training


@pytest.fixture(scope="module")
def trials(tmp_path_factory, teacher):
    """The run folder of three students side by side."""
    out = tmp_path_factory.mktemp("runs") / "trials"
    cli.main(distill_arguments(teacher, out, "--method", "kd", "--trials", "3"))
    return out


def student(run, trial=0):
    network = build_mlp(hidden=8)(nnx.Rngs(0))
    checkpoints = training.Checkpoints(run / "checkpoints")
    checkpoints.restore_network(network, trial=trial)
    return nnx.state(network)


# tests/training/test_trials.py shows the same of the programs.
@pytest.mark.slow
def test_a_trial_is_the_run_of_its_seed_alone(tmp_path, teacher, trials):
    alone = tmp_path / "alone"
    cli.main(distill_arguments(teacher, alone, "--method", "kd", "--seed", "2"))
    assert_bitwise_equal(student(trials, 2), student(alone))
    mine, its = (runs.read_metrics(run / "metrics.jsonl") for run in (trials, alone))
    for record, single in zip(mine, its, strict=True):
        assert record["trials"]["train/loss"][2] == single["train/loss"]


@pytest.mark.slow
def test_the_summary_has_mean_and_deviation_of_last_and_best_epoch(trials):
    summary = json.loads((trials / "summary.json").read_text())
    history = runs.read_metrics(trials / "metrics.jsonl")
    table = np.array([record["trials"]["test/accuracy"] for record in history])
    for name, values in (("last", table[-1]), ("best", table.max(axis=0))):
        result = summary["trials"][f"test_accuracy_{name}"]
        assert result["values"] == values.tolist()
        assert summary[f"test_accuracy_{name}"] == pytest.approx(values.mean())
        assert result["std"] == pytest.approx(statistics.stdev(values.tolist()))
    assert summary["trials"]["seeds"] == [0, 1, 2]


@pytest.mark.slow
def test_any_trial_can_be_evaluated_and_the_first_is_by_default(trials, capsys):
    last = runs.read_metrics(trials / "metrics.jsonl")[-1]
    for trial in (None, 0, 2):
        more = () if trial is None else ("--trial", str(trial))
        cli.main(["evaluate", str(trials), *more])
        accuracy = last["trials"]["test/accuracy"][trial or 0]
        assert f"test accuracy {accuracy:.2%}" in capsys.readouterr().out


@pytest.mark.slow
def test_any_trial_can_teach(tmp_path, trials, teacher_of):
    arguments = distill_arguments(trials, tmp_path / "run", "--teacher-trial", "1")
    assert_bitwise_equal(teacher_of(arguments), student(trials, 1))


@pytest.mark.slow
def test_any_trial_can_be_exported_and_shown(tmp_path, trials, capsys):
    more = ("--trial", "1", "--format", "orbax", "--out", str(tmp_path / "arrays"))
    cli.main(["export", str(trials), *more])
    assert "trial 1, seed 1" in capsys.readouterr().out
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "arrays")
    kernel = student(trials, 1)["classifier"]["kernel"][...]
    np.testing.assert_array_equal(restored["classifier.kernel"], kernel)

    cli.main(["show", str(trials), "--trial", "1"])
    page = (trials / "report.html").read_text()
    assert "trial 1, seed 1)" in page
    history = runs.read_metrics(trials / "metrics.jsonl")
    first, own, _ = zip(*(r["trials"]["test/accuracy"] for r in history), strict=True)
    assert max(first) != max(own)
    for value, name in ((own[-1], "test accuracy"), (max(own), "highest test")):
        assert f'<b>{value:.2%}</b><span class="soft">{name}' in page


def test_a_record_of_one_trial_has_its_values():
    record = {"epoch": 3, "a": 2.0, "trials": {"a": [1.0, 3.0]}}
    assert runs.select_trial(record, 1)["a"] == 3.0
    assert runs.select_trial({"epoch": 3, "a": 2.0}, 0) == {"epoch": 3, "a": 2.0}


@pytest.mark.slow
def test_trials_resume(tmp_path, teacher, trials):
    run = tmp_path / "run"
    shutil.copytree(trials, run)
    shutil.rmtree(run / "checkpoints" / "6")
    more = ("--method", "kd", "--trials", "3", "--resume")
    cli.main(distill_arguments(teacher, run, *more))
    for trial in range(3):
        assert_bitwise_equal(student(run, trial), student(trials, trial))


@pytest.mark.slow
def test_a_trial_that_there_is_not_is_refused(tmp_path, teacher, trials, capsys):
    says = "has no trial 3: its run has 3"
    for command in ("evaluate", "show"):
        assert says in refusal([command, trials, "--trial", "3"], capsys)
    more = ("--teacher-trial", "1")
    line = refusal(distill_arguments(teacher, tmp_path / "run", *more), capsys)
    assert "has no trial 1: its run has 1" in line


def test_no_trials_are_refused(tmp_path, quadrants, capsys):
    out = tmp_path / "run"
    line = refusal(train_arguments(quadrants, out, "--trials", "0"), capsys)
    assert "--trials must be at least 1" in line
    assert not out.exists()
