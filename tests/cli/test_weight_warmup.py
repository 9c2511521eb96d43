"""``--weight-warmup`` and ``--weight-ramp``: what they refuse, record and change."""

import pytest
from cli_arguments import distill_arguments, refusal

from jaxkd import cli, runs
from jaxkd.cli import _method
from jaxkd.cli._options import parse

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def options(*more):
    return parse(["distill", "--teacher", "t", "--out", "o", "--model", "mlp", *more])


def recorded(*more):
    """The ramps that a run folder would record."""
    made = _method.with_ramps(options(*more))
    return made.weight_warmup, made.weight_ramp


@pytest.mark.parametrize(
    "given, ramps",
    [
        (("--method", "dkd"), ({"dkd": 20}, "linear")),
        (("--method", "review+kd"), ({"review": 20}, "linear")),
        (("--method", "kd", "--weights", "dkd", "1"), ({"dkd": 20}, "linear")),
        (("--method", "dkd", "--weights", "dkd", "0"), ({}, "constant")),
        (("--method", "dkd", "--weight-warmup", "dkd", "0"), ({}, "constant")),
        (("--method", "dkd", "--weight-ramp", "constant"), ({}, "constant")),
        (("--method", "kd"), ({}, "constant")),
        (
            (
                "--method",
                "dkd",
                "--weight-warmup",
                "ce",
                "5",
                "--weight-ramp",
                "cosine",
            ),
            ({"dkd": 20, "ce": 5}, "cosine"),
        ),
    ],
)
def test_the_recorded_ramps_are_those_that_are_trained(given, ramps):
    assert recorded(*given) == ramps


def test_recorded_ramps_mean_the_same_when_they_are_read_again():
    for given in (("--weight-ramp", "constant"), ("--weight-warmup", "dkd", "3"), ()):
        once = _method.with_ramps(options("--method", "dkd", *given))
        assert _method.with_ramps(once) == once


@pytest.mark.parametrize(
    "given, message",
    [
        (
            "--weight-warmup dkdd 3",
            "--weight-warmup: unknown part 'dkdd'; did you mean",
        ),
        ("--weight-warmup hkd 3", "--weight-warmup of hkd would have no effect"),
        ("--weights kd 0 --weight-warmup kd 3", "because the part has no weight"),
        ("--weight-warmup kd -1", "--weight-warmup must be at least 0, got -1"),
        ("--weight-ramp cosine", "--weight-ramp cosine would have no effect"),
        (
            "--weight-warmup kd 3 --weight-ramp constant",
            "--weight-ramp constant makes all weights constant, but --weight-warmup",
        ),
    ],
)
def test_a_ramp_that_cannot_be_used_is_refused(tmp_path, capsys, given, message):
    more = ("--method", "kd", *given.split())
    arguments = distill_arguments(tmp_path / "teacher", tmp_path / "run", *more)
    assert message in refusal(arguments, capsys)


@pytest.mark.parametrize(
    "given, message",
    [("kd 1.5", "expected an integer, got '1.5'"), ("kd", "part and its number of ep")],
)
def test_a_warmup_that_is_no_number_of_epochs_is_refused(capsys, given, message):
    with pytest.raises(SystemExit) as caught:
        options("--weight-warmup", *given.split())
    assert caught.value.code == 2
    printed = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
    assert message in printed


def test_a_run_shorter_than_its_ramp_says_so(capsys):
    _method.warn_of_short_run(options("--method", "dkd", "--epochs", "20"))
    assert not capsys.readouterr().err
    _method.warn_of_short_run(options("--method", "dkd", "--epochs", "19"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "the weight of dkd rises for 20 epochs, but training has 19 epochs" in line


@pytest.mark.slow
def test_the_ramp_is_in_the_config_the_metrics_and_the_page(tmp_path, teacher):
    more = ("--method", "kd", "--weight-warmup", "kd", "2", "--epochs", "3")
    arguments = distill_arguments(teacher, tmp_path / "run", *more)
    arguments = [word for word in arguments if word != "--no-report"]
    first = arguments.index("--epochs")
    cli.main(arguments[:first] + arguments[first + 2 :])
    stored = runs.read_config(tmp_path / "run")["options"]
    assert (stored["weight_warmup"], stored["weight_ramp"]) == ({"kd": 2}, "linear")
    history = runs.read_metrics(tmp_path / "run" / "metrics.jsonl")
    weights = [record["train/weight/kd"] for record in history]
    assert weights == pytest.approx([0.45, 0.9, 0.9])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Scheduled weights" in page
