"""``jaxkd record`` and ``jaxkd distill --recorded``."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cli_arguments import distill_arguments, refusal
from flax import nnx
from support import assert_bitwise_equal

from jaxkd import cli, recordings, runs

VIEWS = ("--batch-size", "16", "--data-seed", "3")


def record_arguments(teacher, out, *more):
    return [
        *("record", "--teacher", str(teacher), "--out", str(out)),
        *("--epochs", "2", *VIEWS, *more),
    ]


def recorded_arguments(recording, out, *more):
    return [
        *("distill", "--recorded", str(recording), "--model", "mlp", "--width", "8"),
        *("--epochs", "2", "--method", "kd", "--no-report", "--out", str(out), *more),
    ]


@pytest.fixture(scope="module")
def recording(tmp_path_factory, teacher):
    out = tmp_path_factory.mktemp("recorded") / "teacher.recorded"
    cli.main(record_arguments(teacher, out))
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory, recording):
    """A run whose teacher is not at hand, and was recorded with augmentation."""
    out = tmp_path_factory.mktemp("runs") / "student"
    cli.main(recorded_arguments(recording, out, "--report"))
    return out


def student(path):
    return nnx.state(runs.load_run(path).module)


def test_a_student_has_the_bits_of_the_live_teachers_student(tmp_path, teacher, run):
    live = distill_arguments(teacher, tmp_path / "live", "--method", "kd", *VIEWS)
    cli.main(live)
    assert_bitwise_equal(student(tmp_path / "live"), student(run))


def test_the_views_of_the_recording_become_options_of_the_run(run, recording, teacher):
    config = runs.read_config(run)
    options = config["options"]
    assert (options["batch_size"], options["data_seed"]) == (16, 3)
    shown = recordings.open(recording).views.augmentation
    assert options["data"]["crop_padding"] == shown.crop_padding
    assert options["data"]["flip"] == shown.flip
    assert config["dataset"] == runs.read_config(teacher)["dataset"]


def test_the_run_records_what_taught_it(run, recording, teacher):
    config, opened = runs.read_config(run), recordings.open(recording)
    assert config["recording"]["fingerprint"] == opened.fingerprint
    assert config["recording"]["paths"] == [str(recording)]
    assert config["teacher"]["network"] == runs.read_config(teacher)["network"]
    assert config["teacher"]["fingerprint"] == opened.teacher["fingerprint"]


def test_the_size_and_the_next_command_are_printed(tmp_path, teacher, capsys):
    cli.main(record_arguments(teacher, tmp_path / "out", "--top-k", "2"))
    lines = capsys.readouterr().out.splitlines()
    assert "for 2 epochs x" in lines[0]
    assert lines[-1].startswith("distill from it with: jaxkd distill --recorded ")
    assert "--epochs 2" in lines[-1]


def test_a_recording_is_continued_by_a_command_with_more_epochs(
    tmp_path, recording, teacher
):
    longer = shutil.copytree(recording, tmp_path / "longer")
    cli.main([*record_arguments(teacher, longer), "--epochs", "3"])
    assert recordings.open(longer).views.epochs == 3


def test_the_page_says_that_it_has_no_teacher(run):
    text = "no comparison with the teacher"
    assert text in (run / "report.html").read_text()
    cli.main(["show", str(run)])
    assert text in (run / "report.html").read_text()


def test_the_page_has_the_teacher_of_a_given_folder(run, teacher):
    cli.main(["show", str(run), "--teacher", str(teacher)])
    assert "same prediction as the teacher" in (run / "report.html").read_text()


def test_evaluate_and_report_need_no_teacher(run, tmp_path, capsys):
    cli.main(["evaluate", str(run)])
    assert "test accuracy" in capsys.readouterr().out
    cli.main(["report", str(run), "--out", str(tmp_path / "report")])
    assert "kd" in (tmp_path / "report" / "report.md").read_text()


def test_two_recordings_are_an_ensemble(tmp_path, recording, teacher):
    other = tmp_path / "other"
    cli.main(record_arguments(teacher, other, "--outputs", "logits"))
    weights = ("--recorded-weights", "0.25", "0.75")
    arguments = recorded_arguments(recording, tmp_path / "run", *weights)
    arguments.insert(3, str(other))
    cli.main(arguments)
    paths = runs.read_config(tmp_path / "run")["recording"]["paths"]
    assert paths == [str(recording), str(other)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data-seed", "0"], "--data-seed is 0"),
        (["--batch-size", "20"], "--batch-size is 20"),
        (["--epochs", "5"], "epochs is 5"),
        (["--flip", "True"], "flips"),
        (["--mixup", "0.5"], "mixup 0.5"),
        (["--dataset", "digits"], "dataset is digits"),
        (["--subset", "20"], "20 training rows"),
        (["--method", "crd+kd", "--recorded", "LOGITS"], "--outputs logits embedding"),
        (["--method", "sskd"], "views of the images"),
        (["--teacher", "TEACHER"], "both are given"),
        (["--equal-means"], "--equal-means"),
        (["--teacher-trial", "1"], "--teacher-trial"),
        (["--recorded-weights", "1"], "--recorded-weights has 1 value"),
    ],
)
def test_a_run_that_the_recording_does_not_fit_is_refused(
    tmp_path, recording, teacher, logits_only, capsys, more, said
):
    named = {"TEACHER": str(teacher), "LOGITS": str(logits_only)}
    more = [named.get(word, word) for word in more]
    arguments = recorded_arguments(recording, tmp_path / "run", *more)
    assert said in refusal(arguments, capsys)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def logits_only(tmp_path_factory, teacher):
    out = tmp_path_factory.mktemp("recorded") / "logits"
    cli.main(record_arguments(teacher, out, "--outputs", "logits"))
    return out


def test_without_any_teacher_the_command_asks_for_one(tmp_path, capsys):
    arguments = ["distill", "--model", "mlp", "--out", str(tmp_path / "run")]
    assert "either --teacher or --recorded" in refusal(arguments, capsys)


def test_resumed_with_another_recording_a_run_is_refused(
    tmp_path, run, logits_only, capsys
):
    copied = shutil.copytree(run, tmp_path / "run")
    arguments = recorded_arguments(logits_only, copied, "--report", "--resume")
    assert "recording fingerprint was" in refusal(arguments, capsys)


def test_resumed_with_a_recording_that_has_moved_a_run_continues(
    tmp_path, run, recording, capsys
):
    copied = shutil.copytree(run, tmp_path / "run")
    moved = shutil.copytree(recording, tmp_path / "moved")
    cli.main(recorded_arguments(moved, copied, "--report", "--resume"))
    assert "resuming" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--outputs", "stages.7"], "logits (4), embedding (16)"),
        (["--epochs", "0"], "--crop-padding 0 --flip False"),
        (["--epochs", "-1"], "--epochs must be at least 0"),
        (["--top-k", "4"], "the teacher has 4 logits"),
        (["--dtype", "float16", "--out", "RECORDED"], 'begun with "float32"'),
    ],
)
def test_a_recording_that_cannot_be_made_is_refused(
    tmp_path, teacher, recording, capsys, more, said
):
    more = [str(recording) if word == "RECORDED" else word for word in more]
    arguments = record_arguments(teacher, tmp_path / "out", *more)
    assert said in refusal(arguments, capsys)


def start(arguments, **settings):
    program = "from jaxkd.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", program, *arguments], **settings)


def wait_for(path, process):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_recording_that_was_ended_continues_with_the_same_bits(
    tmp_path, teacher, number
):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    many = ("--epochs", "300")
    cli.main(record_arguments(teacher, whole, *many))
    process = start(record_arguments(teacher, ended, *many), stderr=subprocess.PIPE)
    wait_for(ended / "epoch-00003", process)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == (75 if number == signal.SIGTERM else -number)
    assert (b"continue with: jaxkd record" in said) == (number == signal.SIGTERM)
    done = recordings.open(ended).views.epochs
    assert 2 <= done < 300  # a kill may come before the manifest lists the third
    cli.main(record_arguments(teacher, ended, *many))
    ours, theirs = map(recordings.open, (ended, whole))
    manifests = [
        json.loads((x.path / "manifest.json").read_text()) for x in (ours, theirs)
    ]
    assert manifests[0]["epochs"] == manifests[1]["epochs"]


@pytest.mark.slow
def test_a_run_killed_twice_resumes_from_its_recording(tmp_path, teacher):
    recording, whole, killed = (tmp_path / name for name in ("rec", "whole", "killed"))
    cli.main(record_arguments(teacher, recording, "--epochs", "60"))
    arguments = lambda out: recorded_arguments(recording, out, "--epochs", "60")
    cli.main(arguments(whole))
    resume = []
    for step in ("2", "30"):
        process = start([*arguments(killed), "--checkpoint-every", "2", *resume])
        checkpoints = killed / "checkpoints"
        deadline = time.monotonic() + 300
        while True:
            steps = [int(p.name) for p in checkpoints.glob("*") if p.name.isdigit()]
            if max(steps, default=0) > int(step):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        resume = ["--resume"]
    cli.main([*arguments(killed), "--resume"])
    assert_bitwise_equal(student(whole), student(killed))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_recording_continues(tmp_path, teacher):
    out = tmp_path / "out"
    arguments = record_arguments(teacher, out, "--outputs", "logits", "embedding")
    process = start(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"},
    )
    limit = 2500  # less than the embeddings of an epoch
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, said = process.communicate()
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert str(out) in line
    assert "0 complete epochs" in line
    cli.main(arguments)
    assert recordings.open(out).views.epochs == 2
