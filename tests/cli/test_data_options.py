"""Streaming, mixing and folders of images from the command line."""

import json
import shutil

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from PIL import Image
from support import make_dataset

from jaxkd import cli, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images in files."""
    root = tmp_path_factory.mktemp("images")
    dataset = make_dataset()
    for part in ("train", "test"):
        images, labels = getattr(dataset, part)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / part / f"class{label}" / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    return root


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    return ("--cache-dir", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, folder, cached):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    cli.main(train_arguments(folder, out, "--image-size", "6", *cached))
    return out


def history(out):
    return [
        (record["train/loss"], record["test/loss"])
        for record in training.read_metrics(out / "metrics.jsonl")
    ]


def test_a_folder_is_streamed_as_it_is_decoded(tmp_path, teacher, folder, cached):
    out = tmp_path / "run"
    cli.main(train_arguments(folder, out, "--image-size", "6", "--stream", *cached))
    assert history(out) == history(teacher)
    again = train_arguments(folder, out, "--image-size", "6", "--resume", *cached)
    cli.main(again)  # without --stream: the same experiment
    assert history(out) == history(teacher)


@pytest.mark.slow
def test_student_and_evaluation_take_the_teacher_s_size(
    tmp_path, teacher, cached, capsys
):
    out = tmp_path / "student"
    mixing = ("--randaugment", "1", "3", "--mixup", "0.2", "--cutmix", "1")
    cli.main(distill_arguments(teacher, out, "--method", "kd", *mixing, *cached))
    config = json.loads((out / "config.json").read_text())
    assert config["network"]["image_shape"] == [6, 6, 1]
    assert np.isfinite(history(out)).all()
    capsys.readouterr()
    cli.main(["evaluate", str(teacher), *cached])
    assert "23 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--workers", "2"], "got 2 without stream (--stream)"),
        (["--image-size", "0"], "image_size must be at least 1, got 0"),
        (["--mixup", "-1"], "mixup must lie in [0, inf], got -1"),
        (["--cutmix", "nan"], "cutmix must lie in [0, inf], got nan"),
        (["--randaugment", "0", "9"], "randaugment_operations must be at least 1"),
        (["--randaugment", "2", "11"], "randaugment_magnitude must lie in [0, 10]"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path, folder, cached, capsys, arguments, says
):
    out = tmp_path / "run"
    assert says in refusal(train_arguments(folder, out, *arguments, *cached), capsys)
    assert not out.exists()


def test_a_damaged_image_is_named_in_one_line(tmp_path, cached, capsys):
    for part in ("train", "test"):
        (tmp_path / "x" / part / "one").mkdir(parents=True)
        (tmp_path / "x" / part / "one" / "1.png").write_text("no image")
    line = refusal(train_arguments(tmp_path / "x", tmp_path / "run", *cached), capsys)
    assert "train/one/1.png is not an image" in line


def test_data_says_what_it_passed_over(tmp_path, folder, cached, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    inside = next(path for path in (copy / "train").iterdir() if path.is_dir())
    for name in ("a.jfif", "b.txt"):
        (inside / name).touch()
    cli.main(["data", str(copy), *map(str, cached)])
    assert "2 files, .jfif and .txt" in capsys.readouterr().out


def test_what_is_in_memory_is_not_streamed(tmp_path, quadrants, capsys):
    line = refusal(train_arguments(quadrants, tmp_path / "run", "--stream"), capsys)
    assert "held in memory" in line
