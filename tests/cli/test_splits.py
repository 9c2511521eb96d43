"""Rows for training and testing: chosen once, recorded, and read again."""

import json

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from PIL import Image
from run_support import CONFIG, make_run
from support import make_dataset

from jaxkd import cli, data, runs
from jaxkd.cli._datasets import load_and_warn
from jaxkd.cli._job import resolve
from jaxkd.cli._options import parse

SPLITS = ("--train-split", "train[:50%]", "--test-split", "train[50%:]")
RECORDED = {"train_split": "train[:50%]", "test_split": "train[50%:]"}


@pytest.fixture
def run(tmp_path, quadrants):
    """The run folder of a network that was trained on half of the training rows."""
    dataset = {"source": str(quadrants), "fingerprint": "test", **RECORDED}
    config = {**CONFIG, "dataset": dataset, "class_names": None}
    return make_run(tmp_path / "run", config=config)


def test_a_run_records_its_rows(run, quadrants):
    loaded = runs.load_run(run)
    assert loaded.load_options == RECORDED
    assert loaded.image_size is None
    dataset = data.load(loaded.dataset, **loaded.load_options)
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (20, 20)


def test_evaluate_reads_the_rows_of_the_run_unless_told_others(run, capsys):
    cli.main(["evaluate", str(run)])
    assert "20 images of q" in capsys.readouterr().err
    cli.main(["evaluate", str(run), "--test-split", "test[:9]"])
    assert "9 images of q" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, expected",
    [
        ((), RECORDED),
        (("--test-split", "test"), RECORDED | {"test_split": "test"}),
        (("--dataset", "digits"), {"train_split": None, "test_split": None}),
    ],
)
def test_a_student_reads_the_rows_of_its_teacher(
    tmp_path, run, flags, expected, monkeypatch
):
    from jaxkd.cli.commands import distill

    monkeypatch.setattr(distill, "check_images", lambda *_: None)
    arguments = distill_arguments(run, tmp_path / "student", "--method", "pkt", *flags)
    options = parse(arguments)
    loaded = distill._load(resolve(options, arguments), options)
    read = loaded.job.options.data
    assert {name: getattr(read, name) for name in expected} == expected


def test_the_options_of_a_run_are_its_load_options(quadrants, tmp_path):
    options = parse(train_arguments(quadrants, tmp_path, *SPLITS))
    assert len(load_and_warn(str(quadrants), options.data).test.labels) == 20


@pytest.mark.parametrize(
    "flags, says",
    [
        (("--train-split", "train[:90%"), "--train-split is 'train[:90%', but it must"),
        (("--test-split", "val"), "--test-split is 'val', but"),
        (("--train-split", "train[:99]"), "99 is more than the split's 40 rows"),
        (
            ("--train-split", "train[:60%]", "--test-split", "train[50%:]"),
            "'train[:60%]' and the test rows 'train[50%:]' share 4 rows of 'train'",
        ),
    ],
)
def test_rows_that_cannot_be_are_refused_in_one_line(
    tmp_path, quadrants, capsys, flags, says
):
    out = tmp_path / "run"
    assert says in refusal(train_arguments(quadrants, out, *flags), capsys)
    assert not out.exists()
    assert says in refusal(["data", quadrants, *flags], capsys)


@pytest.fixture
def photos(tmp_path):
    """A folder with an unlabeled test part."""
    root = tmp_path / "photos"
    for part, names in (("train", "ab"), ("val", "ab"), ("test", ("",))):
        for name in names:
            (root / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.full((8, 8), 40 * i, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def test_data_prints_splits_classes_modes_range_and_doubts(
    tmp_path, photos, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "300")
    cli.main(["data", str(photos), "--cache-dir", str(tmp_path / "cache")])
    captured = capsys.readouterr()
    for said in (
        "test 3, train 6, val 6",
        "2: a, b",
        "6 images of val",
        "L (12)",
        "8x8 (12)",
        "0, 80",
        "6 images (8, 8, 1) uint8, 3 per class",
        "the split 'test' of photos has no labels, so 'val' is used for testing",
    ):
        assert said in captured.out
    assert captured.out.count("has no labels") == 1
    assert not captured.err


def test_data_lists_all_broken_images(tmp_path, photos, capsys):
    for name in ("a/0.png", "b/1.png"):
        (photos / "train" / name).write_text("no image")
    cache = ("--cache-dir", tmp_path / "cache")
    line = refusal(["data", photos, *cache], capsys)
    assert line == "jaxkd: 2 of 12 images cannot be used; repair or remove them"
    with pytest.raises(SystemExit):
        cli.main([str(a) for a in ("data", photos, *cache)])
    printed = capsys.readouterr().out
    for name in ("a/0.png", "b/1.png"):
        assert f"train/{name} is not an image, despite its name" in printed


def test_training_says_each_doubt_once(photos, tmp_path, capsys):
    options = parse(train_arguments(photos, tmp_path, "--cache-dir", str(tmp_path)))
    load_and_warn(str(photos), options.data)
    lines = capsys.readouterr().err.splitlines()
    beginning = "jaxkd: warning: the split 'test' of photos has no labels"
    assert [line.startswith(beginning) for line in lines].count(True) == 1
    assert len(set(lines)) == len(lines)


@pytest.mark.slow
def test_runs_on_slices_are_evaluated_shown_resumed_and_taught_with(tmp_path, capsys):
    root, cache = tmp_path / "photos", ("--cache-dir", str(tmp_path / "cache"))
    for i, (image, label) in enumerate(zip(*make_dataset().train, strict=True)):
        path = root / f"class{label}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    cli.main(train_arguments(root, teacher, *SPLITS, *cache))
    cli.main(distill_arguments(teacher, student, "--method", "kd", *cache))
    capsys.readouterr()
    for out in (teacher, student):
        config = json.loads((out / "config.json").read_text())
        assert config["dataset"].items() >= RECORDED.items()
        assert config["dataset"]["fingerprint"].endswith(
            ", train train[:50%], test train[50%:]"
        )
        cli.main(["evaluate", str(out), *cache])
        last = runs.read_metrics(out / "metrics.jsonl")[-1]
        printed = capsys.readouterr().out
        assert f"test accuracy {last['test/accuracy']:.2%}" in printed
        assert "20 images" in printed
        cli.main(["show", str(out), *cache])
    cli.main(distill_arguments(teacher, student, "--method", "kd", *cache, "--resume"))
    line = refusal(train_arguments(root, teacher, *cache, "--resume"), capsys)
    assert "--train-split" in line
