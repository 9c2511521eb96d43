"""Runs that are resumed: with the same experiment, from an intact checkpoint."""

import copy
import json
import shutil

import pytest
from cli_arguments import refusal, train_arguments
from run_support import CONFIG, flip_a_bit, write_config
from support import build_mlp, make_dataset

from jaxkd import cli, distillers, runs, training

CONFIG = copy.deepcopy(CONFIG)
CONFIG["options"] |= {
    "epochs": 3,
    "on_nonfinite": "stop",
    "teacher": "/runs/teacher",
    "checkpoint_every": None,
    "optimizer": {"learning_rate": 0.05, "milestones": [0.5], "momentum": 0.9},
}
CONFIG["options"]["data"] |= {"mixup": 0.0, "cache_dir": None}
CONFIG["teacher"] = {"network": {"model": "mlp"}, "fingerprint": "0f3a"}


@pytest.fixture
def run(tmp_path):
    """A run folder with a config and a checkpoint that is never read."""
    write_config(tmp_path / "run", CONFIG)
    (tmp_path / "run" / "checkpoints" / "9").mkdir(parents=True)
    return tmp_path / "run"


def changed(**paths):
    """The configuration with other values, by path: `options__data__mixup=0.2`."""
    config = copy.deepcopy(CONFIG)
    for path, value in paths.items():
        *sections, name = path.split("__")
        inner = config
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return config


def differences(run, **paths):
    with pytest.raises(ValueError, match="was started with") as caught:
        runs.check_same_experiment(run, changed(**paths))
    assert caught.value.argument == "out"
    text = str(caught.value)
    assert text.startswith(f"{run} was started with other settings: ")
    return text.removeprefix(f"{run} was started with other settings: ")


# Runs of older versions recorded no ramp, and kept all weights constant.
def test_a_run_of_before_the_ramps_is_not_continued_with_one(run):
    write_config(run, changed(options__method="dkd"))
    new = {"options__method": "dkd"}
    new |= {"options__weight_warmup": {"dkd": 20}, "options__weight_ramp": "linear"}
    said = differences(run, **new)
    assert "weight_warmup.dkd was None, is 20" in said
    assert "continue such a run with --weight-ramp constant" in said


def test_a_run_of_before_the_ramps_is_continued_without_one(run):
    write_config(run, changed(options__method="dkd"))
    same = {"options__weight_warmup": {}, "options__weight_ramp": "constant"}
    same |= {"options__student_layers": [], "options__teacher_layers": []}
    runs.check_same_experiment(run, changed(options__method="dkd", **same))


def test_another_place_and_cadence_are_accepted(run, capsys):
    runs.check_same_experiment(
        run,
        changed(
            options__checkpoint_every=2,
            options__data__cache_dir="/cache",
            options__teacher="/moved/teacher",
            options__optimizer__milestones=(0.5,),
        ),
    )
    assert capsys.readouterr().err == ""


def test_another_length_is_refused_and_why(run):
    text = differences(run, options__epochs=4)
    assert text.startswith("epochs was 3, is 4 (the learning-rate schedule depends")


def test_another_answer_to_divergence_is_refused(run):
    text = differences(run, options__on_nonfinite="skip")
    assert text.startswith("on_nonfinite was 'stop', is 'skip' (")


def test_of_a_group_of_options_only_those_that_differ_are_listed(run):
    text = differences(
        run, options__optimizer__learning_rate=0.01, options__data__mixup=0.2
    )
    assert text == (
        "data.mixup was 0.0, is 0.2; optimizer.learning_rate was 0.05, is 0.01. "
        "Resume it with its own settings, or choose another --out."
    )


def test_where_nothing_was_saved_the_refusal_says_so(run):
    shutil.rmtree(run / "checkpoints")
    text = differences(run, options__optimizer__learning_rate=0.01)
    assert text.endswith("It has no checkpoint: delete it, or choose another --out.")


def test_another_network_dataset_or_teacher_is_refused_by_name(run):
    text = differences(
        run,
        network__width=8,
        dataset__fingerprint="other",
        teacher__fingerprint="ffff",
    )
    for difference in (
        "network width was 16, is 8",
        "dataset fingerprint was 'test', is 'other'",
        "teacher fingerprint was '0f3a', is 'ffff'",
    ):
        assert difference in text


def test_other_versions_are_said_aloud(run, capsys):
    runs.check_same_experiment(run, changed(versions__jax="0.0.1"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning" in line
    assert "(jax 0.10.2 then, 0.0.1 now)" in line


def test_a_run_of_an_older_version_is_the_same_experiment(run, capsys):
    older = copy.deepcopy(CONFIG)
    older["dataset"] = {"source": "/data/photos", "fingerprint": "test, size 8"}
    del older["versions"]["devices"]
    write_config(run, older)
    now = changed(options__data__image_size=8, dataset__image_size=8)
    now["dataset"]["fingerprint"] = "test, size 8"
    runs.check_same_experiment(run, now)
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def program():
    """The experiment of the teacher's run, as the command line compiles it."""
    return training.compile_program(
        build_mlp(),
        make_dataset(),
        distillers.recipe("ce"),
        optimizer=training.published_sgd(9),
        batch_size=16,
    )


@pytest.fixture
def trained(tmp_path, teacher):
    """A copy of the teacher's finished run."""
    return shutil.copytree(teacher, tmp_path / "trained")


def restore(run, program):
    return runs.restore(run, training.Checkpoints(run / "checkpoints"), program)


def test_a_run_is_restored_from_its_newest_checkpoint(trained, program, capsys):
    loop, history = restore(trained, program)
    assert int(loop.train.step) == 9
    assert history == runs.read_metrics(trained)
    assert capsys.readouterr().err == ""


def test_a_run_without_a_checkpoint_has_nothing_to_restore(tmp_path, program):
    assert restore(tmp_path, program) is None


def lines(run):
    return (run / "metrics.jsonl").read_text().splitlines(keepends=True)


DAMAGES = {
    "cut": lambda run: "".join(lines(run))[: len("".join(lines(run))) // 2],
    "less": lambda run: lines(run)[0],
    "empty": lambda run: "",
    "no records": lambda run: "[1]\n",
    "of another run": lambda run: json.dumps({"step": 3, "test/accuracy": 7}) + "\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_metrics_that_are_lost_come_back_from_the_checkpoint(
    trained, program, capsys, damage
):
    before = runs.read_metrics(trained)
    (trained / "metrics.jsonl").write_text(DAMAGES[damage](trained))
    _, history = restore(trained, program)
    assert history == before
    (line,) = capsys.readouterr().err.splitlines()
    assert "of 3 epochs; the others are restored from the checkpoint of step 9" in line
    runs.MetricsWriter(trained, resumed_at=9, history=history).close()
    assert runs.read_metrics(trained) == before
    # Nothing is left that belonged to the metrics before.
    assert runs.read_summary(trained) is None


def test_metrics_that_the_checkpoint_lacks_are_those_of_the_file(
    trained, program, monkeypatch, capsys
):
    restore_all = training.Checkpoints.restore

    def without_history(self, like):
        loop, record = restore_all(self, like)
        return loop, record | {"history": record["history"][:1]}

    monkeypatch.setattr(training.Checkpoints, "restore", without_history)
    before = runs.read_metrics(trained)
    assert restore(trained, program)[1] == before
    assert capsys.readouterr().err == ""
    (trained / "metrics.jsonl").write_text(lines(trained)[0])
    assert restore(trained, program)[1] == before[:1]
    (line,) = capsys.readouterr().err.splitlines()
    assert "has the metrics of only 1 of 3 epochs: neither metrics.jsonl nor" in line


def test_a_run_that_has_lost_its_checkpoints_says_that_it_starts_again(
    trained, program, capsys
):
    shutil.rmtree(trained / "checkpoints")
    assert restore(trained, program) is None
    assert "starts again at step 0" in capsys.readouterr().err


def test_a_run_with_only_damaged_checkpoints_is_refused(trained, program):
    for step in ("6", "9"):
        flip_a_bit(trained / "checkpoints" / step)
    with pytest.raises(ValueError, match="every checkpoint in"):
        restore(trained, program)
    assert (trained / "checkpoints" / "9").is_dir()


# tests/training/storage/test_checkpoints.py shows the same of the checkpoints alone.
@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_set_aside_and_made_again(
    quadrants, trained, capsys
):
    flip_a_bit(trained / "checkpoints" / "9")
    before = runs.read_metrics(trained)
    cli.main(train_arguments(quadrants, trained, "--resume", "--report"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "the checkpoint of step 9" in line
    assert "now called 9.damaged, and that of step 6 is used" in line
    names = sorted(path.name for path in (trained / "checkpoints").iterdir())
    assert names == ["6", "9", "9.damaged"]
    after = runs.read_metrics(trained)
    assert [r["test/loss"] for r in before] == [r["test/loss"] for r in after]
    assert (trained / "report.html").is_file()
    (images,) = (trained / "images").iterdir()
    assert b"confusion matrix" in images.read_bytes()


def test_a_second_run_in_one_folder_is_refused(tmp_path, quadrants, run, capsys):
    pytest.importorskip("fcntl")
    with runs.hold(run):
        line = refusal(train_arguments(quadrants, run, "--resume"), capsys)
    assert "is in use by process" in line
    new = tmp_path / "new"
    with runs.hold(new):
        line = refusal(train_arguments(quadrants, new), capsys)
    assert "is in use by process" in line
    assert [path.name for path in new.iterdir()] == ["lock"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize(
    "saved, kept", [(None, False), ("3", True), ("3.damaged", True)]
)
def test_an_interrupted_run_leaves_a_folder_only_if_it_can_be_resumed(
    tmp_path, error, saved, kept
):
    run = tmp_path / "run"
    write_config(run, CONFIG)
    (run / "metrics.jsonl").write_text(json.dumps({"step": 3}) + "\n")
    (run / "checkpoints" / (saved or "unfinished")).mkdir(parents=True)
    with pytest.raises(error), runs.nothing_left_behind(run):
        raise error
    assert run.exists() == kept
