"""Held-out images, the best epoch, and runs that stop early, from the command line."""

import json

import pytest
from cli_arguments import distill_arguments, refusal, train_arguments

from jaxkd import cli, data, runs, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--keep", "best"], "--keep best needs validation images, because nothing is"),
        (["--patience", "3"], "--patience 3 needs validation images, because nothing"),
        (["--patience", "0", "--validation", "0.2"], "--patience must be at least 1"),
        (["--validation", "0"], "--validation must lie between 0 and 1"),
        (["--validation", "1"], "--validation must lie between 0 and 1"),
        (["--validation", "nan"], "--validation must lie between 0 and 1"),
        (["--validation", "0.001"], "no class of q would have a validation image"),
        (["--validation", "0.9"], "--batch-size is 16, but q has only"),
        (["--new-classifier"], "--new-classifier has no effect"),
    ],
)
def test_what_cannot_be_validated_is_refused(tmp_path, quadrants, flags, says, capsys):
    line = refusal(train_arguments(quadrants, tmp_path / "run", *flags), capsys)
    assert says in line
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory, quadrants):
    """A run of two trials that keeps the best networks."""
    out = tmp_path_factory.mktemp("runs") / "run"
    more = ("--validation", "0.2", "--keep", "best", "--trials", "2")
    cli.main(train_arguments(quadrants, out, *more))
    return out


def test_a_run_records_its_validation_images_and_its_best_epochs(run, quadrants):
    config = runs.read_config(run)
    assert config["options"]["data"]["validation"] == 0.2
    assert config["dataset"]["fingerprint"].endswith("8 of 40 rows held out, seed 0")
    dataset = data.hold_out(data.load(str(quadrants)), 0.2)
    normalization = data.channel_statistics(dataset.train.images)
    assert config["normalization"]["mean"] == pytest.approx(normalization.mean)
    summary, history = runs.read_summary(run), runs.read_metrics(run)
    best = [record["epoch"] for record in training.best_records(history)]
    assert summary["trials"]["best_validation_epochs"] == best


def test_the_network_of_the_best_epoch_is_evaluated_and_teaches(
    run, quadrants, tmp_path, capsys
):
    summary = runs.read_summary(run)
    expected = summary["trials"]["test_accuracy_at_best_validation"]["values"][1]
    cli.main(["evaluate", str(run), "--trial", "1"])
    printed = capsys.readouterr().out
    assert f"test accuracy {expected:.2%}" in printed
    step = 2 * summary["trials"]["best_validation_epochs"][1]
    assert f"(step {step}, trial 1, seed 1, best validation accuracy)" in printed

    student = tmp_path / "student"
    more = ("--teacher-trial", "1", "--method", "kd", "--epochs", "1")
    cli.main(distill_arguments(run, student, *more))
    teacher = runs.read_config(student)["teacher"]
    assert teacher["test_accuracy"] == expected


def test_validation_may_not_begin_or_end_when_a_run_is_resumed(run, quadrants, capsys):
    more = ("--trials", "2", "--resume")
    line = refusal(train_arguments(quadrants, run, *more), capsys)
    for said in ("data.validation was 0.2", "keep was 'best'", "fingerprint was"):
        assert said in line


def test_a_finished_run_that_stopped_early_is_not_trained_further(
    tmp_path, quadrants, capsys
):
    out = tmp_path / "run"
    more = ("--validation", "0.2", "--patience", "1", "--learning-rate", "1e-9")
    cli.main(train_arguments(quadrants, out, *more))
    assert "stopped after epoch 2 of 3" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["stopped_early"], summary["epochs"]) == (True, 2)
    before = runs.read_metrics(out)
    cli.main(train_arguments(quadrants, out, *more, "--resume"))
    assert runs.read_metrics(out) == before
    again = json.loads((out / "summary.json").read_text())
    assert again == summary


@pytest.mark.slow
def test_digits_are_validated_kept_stopped_and_shown(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["train", "--dataset", "digits", "--model", "mlp", "--width", "16"]
    arguments += ["--epochs", "30", "--learning-rate", "0.1", "--out", str(out)]
    arguments += ["--validation", "0.1", "--keep", "best", "--patience", "2"]
    cli.main(arguments)
    summary = runs.read_summary(out)
    assert summary["stopped_early"]
    history = runs.read_metrics(out)
    (best,) = training.best_records(history)
    assert history[-1]["epoch"] == best["epoch"] + 2
    page = (out / "report.html").read_text()
    for shown in (
        f"<b>{best['test/top5_accuracy']:.2%}</b>",
        f"<b>{best['validation/accuracy']:.2%}</b>",
        "144 held-out training images",
        "had not improved for 2 epochs",
    ):
        assert shown in page
    capsys.readouterr()
    cli.main(["evaluate", str(out)])
    printed = capsys.readouterr().out
    assert f"top-5 accuracy {best['test/top5_accuracy']:.2%}" in printed


@pytest.mark.slow
def test_the_page_of_a_trial_has_its_own_best_epoch(run):
    summary = runs.read_summary(run)["trials"]
    for trial in range(2):
        cli.main(["show", str(run), "--trial", str(trial)])
        page = (run / "report.html").read_text()
        for value, name in (
            (f"{summary['validation_accuracy_best']['values'][trial]:.2%}", "best val"),
            (f"{summary['best_validation_epochs'][trial]}", "epoch of best val"),
        ):
            assert f'<b>{value}</b><span class="soft">{name}' in page
