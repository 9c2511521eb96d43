"""What a run may be continued with, and from."""

import json
import shutil

import pytest
from cli_arguments import distill_arguments, train_arguments

from jaxkd import cli, runs
from jaxkd.runs import _lock


@pytest.fixture
def run(tmp_path, teacher):
    """A copy of the teacher's finished run."""
    return shutil.copytree(teacher, tmp_path / "run")


def resume(quadrants, run, *more):
    cli.main(train_arguments(quadrants, run, "--resume", *more))


def refusal(quadrants, run, capsys, *more):
    with pytest.raises(SystemExit) as caught:
        resume(quadrants, run, *more)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def flip_a_bit(checkpoint):
    file = max(checkpoint.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_another_place_and_cadence_are_accepted(tmp_path, quadrants, run, capsys):
    cadence = ("--checkpoint-every", "2", "--checkpoint-minutes", "1")
    resume(quadrants, run, *cadence, "--cache-dir", str(tmp_path / "cache"))
    assert capsys.readouterr().err == ""


def test_another_length_is_refused_and_why(quadrants, run, capsys):
    line = refusal(quadrants, run, capsys, "--epochs", "4")
    assert ": epochs was 3, is 4 (the learning rate falls at fractions" in line


def test_another_answer_to_divergence_is_refused(quadrants, run, capsys):
    line = refusal(quadrants, run, capsys, "--on-nonfinite", "skip")
    assert ": on_nonfinite was 'stop', is 'skip'" in line


def test_of_a_group_of_options_only_those_that_differ_are_listed(
    quadrants, run, capsys
):
    more = ("--learning-rate", "0.01", "--mixup", "0.2")
    line = refusal(quadrants, run, capsys, *more)
    _, _, listed = line.partition("was started with other settings: ")
    assert (
        listed
        == "data.mixup was 0.0, is 0.2; optimizer.learning_rate was 0.05, is 0.01"
    )


def test_where_nothing_was_saved_the_refusal_says_so(quadrants, run, capsys):
    shutil.rmtree(run / "checkpoints")
    line = refusal(quadrants, run, capsys, "--learning-rate", "0.01")
    assert line.endswith("it holds no checkpoint: delete it, or choose another --out")


def test_other_versions_are_said_aloud(quadrants, run, capsys):
    config = json.loads((run / "config.json").read_text())
    config["versions"]["jax"] = "0.0.1"
    (run / "config.json").write_text(json.dumps(config))
    resume(quadrants, run)
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning" in line
    assert "(jax 0.0.1 then, " in line


@pytest.fixture
def student(tmp_path, teacher):
    out = tmp_path / "student"
    cli.main(distill_arguments(teacher, out, "--method", "kd"))
    return out


def test_a_teacher_may_move_but_not_change(
    tmp_path, quadrants, teacher, student, capsys
):
    moved = shutil.copytree(teacher, tmp_path / "moved")
    cli.main(distill_arguments(moved, student, "--method", "kd", "--resume"))
    other = tmp_path / "other"
    cli.main(train_arguments(quadrants, other, "--seed", "1"))
    with pytest.raises(SystemExit):
        cli.main(distill_arguments(other, student, "--method", "kd", "--resume"))
    assert "teacher fingerprint was" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named_set_aside_and_made_again(quadrants, run, capsys):
    flip_a_bit(run / "checkpoints" / "9")
    before = runs.read_metrics(run / "metrics.jsonl")
    resume(quadrants, run)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the checkpoint of step 9" in line
    assert "now called 9.damaged, and that of step 6 is used" in line
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["6", "9", "9.damaged"]
    after = runs.read_metrics(run / "metrics.jsonl")
    assert [r["test/loss"] for r in before] == [r["test/loss"] for r in after]


def test_a_run_with_only_damaged_checkpoints_is_refused(quadrants, run, capsys):
    for step in ("6", "9"):
        flip_a_bit(run / "checkpoints" / step)
    assert "every checkpoint in" in refusal(quadrants, run, capsys)
    assert (run / "checkpoints" / "9").is_dir()


def test_a_teachers_damaged_checkpoint_is_named_and_left_alone(run, capsys):
    flip_a_bit(run / "checkpoints" / "9")
    cli.main(["evaluate", str(run)])
    printed = capsys.readouterr()
    assert "(step 6)" in printed.out
    assert "step 9" in printed.err
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["6", "9"]


@pytest.mark.parametrize("more", [("--resume",), ()])
def test_a_second_run_in_one_folder_is_refused(quadrants, run, capsys, more):
    pytest.importorskip("fcntl")
    if not more:
        (run / "config.json").unlink()
        for path in run.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with _lock.hold(run), pytest.raises(SystemExit) as caught:
        cli.main(train_arguments(quadrants, run, *more))
    assert caught.value.code == 2
    assert "is in use by process" in capsys.readouterr().err


def test_what_keeps_failing_ends_with_code_1(tmp_path, quadrants, capsys):
    for choice, warnings, says in (
        ("skip", 0, "again after skipped steps"),
        ("back-off", 5, "halved 5 times already"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(
                train_arguments(
                    quadrants,
                    tmp_path / choice,
                    *("--learning-rate", "1e38", "--epochs", "8"),
                    *("--on-nonfinite", choice),
                )
            )
        assert caught.value.code == 1
        *warned, last = capsys.readouterr().err.splitlines()
        assert len(warned) == warnings
        assert says in last
