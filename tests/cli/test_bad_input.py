import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, save_dataset, train_arguments
from support import make_dataset

from jaxkd import cli

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def changed(tmp_path, **arrays):
    """A .npz dataset with some arrays replaced."""
    dataset = make_dataset()
    content = {
        "x_train": dataset.train.images,
        "y_train": dataset.train.labels,
        "x_test": dataset.test.images,
        "y_test": dataset.test.labels,
    }
    path = tmp_path / "changed.npz"
    np.savez(path, **{**content, **arrays})
    return path


def test_images_in_another_range_are_read_with_the_option_that_the_error_names(
    tmp_path, capsys
):
    images = make_dataset().train.images.astype(np.float32) / 127.5 - 1
    path = str(changed(tmp_path, x_train=images))
    assert "--value-range -1 1" in refusal(["data", path], capsys)
    both = str(changed(tmp_path, x_train=images, x_test=images[:23]))
    cli.main(["data", both, "--value-range", "-1", "1"])
    assert "values -1 to 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--model", "resnet21"], "--model: unknown model 'resnet21'; did you mean"),
        (
            ["--dataset", "digit"],
            "--dataset: unknown dataset 'digit'; did you mean",
        ),
        (["--dataset", "nowhere.npz"], "there is no folder or file nowhere.npz"),
        (["--batch-size", "41"], "--batch-size is 41, but q has only 40 training"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--learning-rate", "0"], "--learning-rate must be positive"),
        (["--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--checkpoint-every", "0"], "--checkpoint-every must be at least 1"),
        (["--checkpoint-minutes", "0"], "--checkpoint-minutes must be positive"),
        (["--subset", "41"], "41"),
        (["--subset", "0"], "--subset must be at least 1, got 0"),
        (["--crop-padding", "-1"], "--crop-padding must be at least 0"),
        (["--crop-padding", "9"], "--crop-padding must be at most 8, the size"),
        (["--background", "red"], "--background must be white, black, gray or #RR"),
        (["--background", "black"], "--background) applies to encoded images only"),
        (["--value-range", "1", "0"], "--value-range must be two finite numbers"),
        (["--value-range", "0", "9"], "must lie in 0 to 9, the given value_range"),
        (["--width", "0"], "--width must be at least 1, got 0"),
        (["--seed", "3000000000"], "--seed is 3000000000, but a seed must be an"),
        (["--data-seed", "-3000000000"], "--data-seed is -3000000000, but a seed"),
        (["--seed", "2147483647", "--trials", "2"], "the last seed would be 21474836"),
        (["--mixup", "inf"], "--mixup must be a finite number of at least 0"),
        (["--num-processes", "2"], "--num-processes needs --distributed"),
        (["--mesh", "data=0"], "--mesh must be like data=4 or data=4,trial=2"),
        (["--mesh", "data=64"], "--mesh data=64 needs 64 devices"),
    ],
)
def test_train_refuses(tmp_path, quadrants, capsys, arguments, says):
    out = tmp_path / "run"
    assert says in refusal(train_arguments(quadrants, out, *arguments), capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--method", "hdk"], "--method: unknown method 'hdk'; did you mean"),
        (["--temperature", "0"], "--temperature must be positive, got 0"),
        (["--temperature", "-4"], "--temperature must be positive, got -4"),
        (["--hkd.temperature", "0"], "--hkd.temperature must be positive"),
        (["--hkd.num-negatives", "31"], "--hkd.num-negatives is 31, but class 0 holds"),
        (["--hkd.dim", "0"], "--hkd.dim must be at least 1, got 0"),
        (["--teacher-trial", "-1"], "--teacher-trial must be at least 0"),
        (
            ["--method", "kd", "--hkd.neighbors", "4"],
            "--hkd.neighbors would have no effect: --method kd has no part 'hkd'",
        ),
        (
            ["--method", "hkd", "--temperature", "2"],
            "--temperature would have no effect: --method hkd has no part 'kd'",
        ),
        (["--method", "logit-matching", "--temperature", "2"], "has no part 'kd'"),
        (
            ["--weights", "nothing", "1"],
            "--weights: unknown part of a method 'no",
        ),
        (["--weights", "ce", "-1"], "--weights ce is -1, but a weight must be a fin"),
        (["--weights", "ce", "nan"], "--weights ce is nan, but a weight must be"),
        (
            ["--method", "kd", "--weights", "ce", "0", "kd", "0"],
            "--weights sets every part of --method kd to 0 (ce, kd)",
        ),
    ],
)
def test_distill_refuses(tmp_path, teacher, capsys, arguments, says):
    out = tmp_path / "run"
    assert says in refusal(distill_arguments(teacher, out, *arguments), capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"y_train": np.full(40, 4)}, "y_train must lie in [0, 3]"),
        ({"y_test": np.full(23, -1)}, "y_test must lie in [0, 3]"),
        ({"x_train": np.full((40, 8, 8, 1), np.nan, np.float32)}, "finite"),
        ({"x_train": np.zeros((0, 8, 8, 1), np.uint8), "y_train": []}, "x_train"),
        ({"x_train": np.zeros((39, 8, 8, 1), np.uint8)}, "39"),
        ({"x_test": np.zeros((23, 9, 9, 1), np.uint8)}, "(9, 9, 1)"),
        ({"x_train": np.zeros((40, 8, 8, 1), np.int64)}, "int64"),
        ({"x_train": np.array([{}] * 40)}, "x_train"),
    ],
)
def test_a_dataset_that_cannot_be_right_is_refused(tmp_path, capsys, arrays, says):
    path = changed(
        tmp_path,
        **arrays,
        **({"class_names": list("abcd")} if "y_train" in arrays else {}),
    )
    out = tmp_path / "run"
    assert says in refusal(train_arguments(path, out), capsys)
    assert not out.exists()


def test_a_damaged_npz_is_refused(tmp_path, quadrants, capsys):
    path = tmp_path / "cut.npz"
    path.write_bytes(quadrants.read_bytes()[:1000])
    line = refusal(train_arguments(path, tmp_path / "run"), capsys)
    assert "cut.npz" in line


def test_a_teacher_without_a_finished_checkpoint_is_refused(tmp_path, teacher, capsys):
    unfinished = tmp_path / "teacher"
    shutil.copytree(teacher, unfinished)
    shutil.rmtree(unfinished / "checkpoints")
    (unfinished / "checkpoints" / "9.orbax-checkpoint-tmp-1").mkdir(parents=True)
    line = refusal(distill_arguments(unfinished, tmp_path / "run"), capsys)
    assert "has no finished checkpoint" in line


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    line = refusal(distill_arguments(tmp_path, tmp_path / "run"), capsys)
    assert "is not a run folder" in line


def test_a_missing_teacher_is_refused(tmp_path, capsys):
    line = refusal(distill_arguments(tmp_path / "none", tmp_path / "run"), capsys)
    assert "there is no run folder" in line


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"classes": 3}, "trained on 4 classes"),
        ({"size": 10}, "takes images of shape (8, 8, 1)"),
        ({"channels": 3}, "takes images of shape (8, 8, 1)"),
    ],
)
def test_a_teacher_of_other_classes_or_images_is_refused(
    tmp_path, teacher, capsys, settings, says
):
    other = save_dataset(tmp_path / "other.npz", make_dataset(**settings))
    more = ("--dataset", str(other))
    line = refusal(distill_arguments(teacher, tmp_path / "run", *more), capsys)
    assert says in line


NAMES = ["ape", "bee", "cat", "dog"]


@pytest.fixture
def named(tmp_path, teacher):
    """The teacher's run folder as one whose classes have names."""
    run = shutil.copytree(teacher, tmp_path / "named")
    config = json.loads((run / "config.json").read_text())
    config["class_names"] = NAMES
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.mark.parametrize("names", ["ape cat bee dog", "ape fox owl dog"])
def test_classes_of_other_names_or_order_are_refused(tmp_path, named, capsys, names):
    others = changed(tmp_path, class_names=names.split())
    more = ("--dataset", others)
    for arguments in (
        distill_arguments(named, tmp_path / "run", *more),
        ["evaluate", named, *more],
    ):
        line = refusal(arguments, capsys)
        assert f"calls class 1 {names.split()[1]!r}, but the network" in line
        assert "was trained with the name 'bee'" in line
        assert "2 of 4 classes differ" in line


@pytest.mark.parametrize(
    "network, classes",
    [(NAMES, NAMES), (NAMES, None), (["0", "1", "2", "3"], NAMES), (None, NAMES)],
)
def test_classes_are_known_by_number_where_there_are_no_names(
    tmp_path, named, capsys, network, classes
):
    config = json.loads((named / "config.json").read_text())
    config["class_names"] = network
    (named / "config.json").write_text(json.dumps(config))
    arrays = {} if classes is None else {"class_names": classes}
    cli.main(["evaluate", str(named), "--dataset", str(changed(tmp_path, **arrays))])
    assert "23 images" in capsys.readouterr().out


def test_an_existing_run_is_not_overwritten(teacher, quadrants, capsys):
    before = (teacher / "metrics.jsonl").read_bytes()
    line = refusal(train_arguments(quadrants, teacher), capsys)
    assert "already exists. Add --resume" in line
    assert (teacher / "metrics.jsonl").read_bytes() == before


def test_nothing_to_resume_is_refused(tmp_path, quadrants, capsys):
    arguments = train_arguments(quadrants, tmp_path / "none", "--resume")
    assert "contains no run to resume" in refusal(arguments, capsys)


def test_resuming_with_other_settings_is_refused_with_the_difference(
    teacher, quadrants, capsys
):
    arguments = train_arguments(quadrants, teacher, "--resume", "--seed", "5")
    assert ": seed was 0, is 5" in refusal(arguments, capsys)


def test_a_loss_that_is_not_finite_ends_with_code_1(tmp_path, quadrants, capsys):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as caught:
        cli.main(train_arguments(quadrants, out, "--learning-rate", "1e30"))
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the loss is not finite at step" in line


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 400 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_finished(tiny_disk, quadrants, capsys):
    out = tiny_disk / "run"
    line = refusal(train_arguments(quadrants, out, "--epochs", "500"), capsys)
    assert "No space left" in line
    assert "is kept" in line
    leftovers = [p for p in out.rglob("*") if "tmp" in p.name]
    assert leftovers == []


@pytest.mark.parametrize(
    "path, says",
    [
        ("x/" * 2000, "has more than"),
        ("file/run", "which is not a folder"),
        ("y" * 300, "has a name of more than 255 bytes"),
    ],
)
def test_an_out_that_cannot_be_made_is_refused_before_the_data_are_read(
    tmp_path, capsys, path, says
):
    (tmp_path / "file").touch()
    line = refusal(train_arguments("nowhere.npz", tmp_path / path), capsys)
    assert says in line
    assert line.endswith("Choose another --out.")


def test_an_out_in_the_home_of_no_user_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(train_arguments("digits", "~nosuchuser/run"))
    assert caught.value.code == 2
    assert "there is no user 'nosuchuser'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lr=[0.1]", "[red]x[/b]", "~name", "a*b?", "new\nli"])
def test_a_run_in_a_folder_of_any_name_is_evaluated(
    tmp_path, quadrants, capsys, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    cli.main(train_arguments(quadrants, f"./{name}"))
    cli.main(train_arguments(quadrants, f"./{name}", "--resume"))
    (tmp_path / name).rename(tmp_path / "moved")
    cli.main(["evaluate", "moved"])
    assert "test accuracy" in capsys.readouterr().out.splitlines()[-1]
