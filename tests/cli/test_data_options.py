"""Streaming, mixing and folders of images from the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_arguments import distill_arguments, refusal, train_arguments
from PIL import Image
from support import make_dataset

from jaxkd import cli, data, runs
from jaxkd.cli._datasets import load_dataset
from jaxkd.cli._options import DataOptions

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images in files, of two sizes."""
    root = tmp_path_factory.mktemp("images")
    dataset = make_dataset()
    for part in ("train", "test"):
        images, labels = getattr(dataset, part)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / part / f"class{label}" / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.pad(image[..., 0], ((0, i % 2), (0, 0)))
            Image.fromarray(image).save(path)
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
        for record in runs.read_metrics(out / "metrics.jsonl")
    ]


@pytest.mark.slow
def test_a_folder_is_streamed_as_it_is_decoded(tmp_path, teacher, folder, cached):
    out = tmp_path / "run"
    cli.main(train_arguments(folder, out, "--image-size", "6", "--stream", *cached))
    assert history(out) == history(teacher)
    again = train_arguments(folder, out, "--image-size", "6", "--resume", *cached)
    cli.main(again)  # without --stream: the same experiment
    assert history(out) == history(teacher)


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher, cached):
    """The run folder of a student that was told no size."""
    out = tmp_path_factory.mktemp("runs") / "student"
    cli.main(distill_arguments(teacher, out, "--method", "kd", *cached))
    return out


def as_older_versions_wrote_it(student, out):
    """A copy of its run folder that does not say the size among the options."""
    shutil.copytree(student, out)
    config = json.loads((out / "config.json").read_text())
    assert config["options"]["data"]["image_size"] == 6
    config["options"]["data"]["image_size"] = None
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.slow
def test_a_student_takes_its_teachers_size_and_evaluation_the_students(
    student, cached, capsys
):
    config = json.loads((student / "config.json").read_text())
    assert config["network"]["image_shape"] == [6, 6, 1]
    cli.main(["evaluate", str(student), *cached])
    assert "23 images" in capsys.readouterr().out


@pytest.mark.slow
def test_a_student_that_was_told_no_size_can_be_shown_resumed_and_teach(
    tmp_path, student, teacher, cached, teacher_of
):
    older = as_older_versions_wrote_it(student, tmp_path / "older")
    cli.main(["show", str(older), *cached])
    assert (older / "report.html").is_file()
    more = ("--method", "kd", *cached)
    for run in (student, older):
        cli.main(distill_arguments(teacher, run, *more, "--resume"))
    for run in (student, older):
        assert teacher_of(distill_arguments(run, tmp_path / "next", *more))


@pytest.mark.slow
def test_a_student_and_evaluation_read_the_pixels_of_the_teachers_test_resize(
    tmp_path, folder, cached, capsys
):
    resize = ("--image-size", "6", "--test-resize", "7", *cached)
    cli.main(train_arguments(folder, tmp_path / "teacher", *resize))
    loaded = runs.load_run(tmp_path / "teacher")
    assert loaded.load_options == {"image_size": 6, "test_resize": 7}
    more = ("--method", "kd", *cached)
    cli.main(distill_arguments(tmp_path / "teacher", tmp_path / "student", *more))
    config = runs.read_config(tmp_path / "student")
    assert config["dataset"]["test_resize"] == 7
    assert config["options"]["data"]["test_resize"] == 7
    loss = runs.read_metrics(tmp_path / "student/metrics.jsonl")[-1]["test/loss"]
    capsys.readouterr()
    cli.main(["evaluate", str(tmp_path / "student"), *cached])
    assert f"loss {loss:.4f} nats" in capsys.readouterr().out


def test_data_prints_the_size_that_test_images_are_scaled_to(folder, cached, capsys):
    size = ("--image-size", "6", "--test-resize", "7")
    cli.main(["data", str(folder), *size, *map(str, cached)])
    printed = capsys.readouterr().out
    assert "shorter side scaled to 7, center 6x6" in printed


def test_evaluation_at_another_size_is_refused_with_both(student, cached, capsys):
    line = refusal(["evaluate", student, "--image-size", "5", *cached], capsys)
    assert "(6, 6, 1)" in line
    assert "(5, 5, 1)" in line


@pytest.mark.slow
def test_augmented_and_mixed_images_can_be_learned_from(tmp_path, teacher, cached):
    out = tmp_path / "student"
    mixing = ("--randaugment", "1", "3", "--mixup", "0.2", "--cutmix", "1")
    mixing += ("--random-resized-crop", "0.25", "1")
    cli.main(distill_arguments(teacher, out, "--method", "kd", *mixing, *cached))
    assert np.isfinite(history(out)).all()


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--workers", "2"], "--workers is 2, but workers read streamed images only"),
        (["--image-size", "0"], "--image-size must be at least 1, got 0"),
        (["--mixup", "-1"], "--mixup must be a finite number of at least"),
        (
            ["--cutmix", "nan"],
            "--cutmix must be a finite number of at least",
        ),
        (
            ["--randaugment", "0", "9"],
            "--randaugment is 0 9, but it must be",
        ),
        (
            ["--randaugment", "2", "11"],
            "--randaugment is 2 11, but it must be",
        ),
        (
            ["--random-resized-crop", "0.5", "1.5"],
            "--random-resized-crop is 0.5 1.5, but it must be",
        ),
        (
            ["--random-resized-crop", "0.08", "1", "--crop-padding", "1"],
            "--crop-padding is 1, but --random-resized-crop replaces",
        ),
        (["--test-resize", "5"], "--test-resize must be at least 6"),
        (["--test-resize", "0"], "--test-resize must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path, folder, cached, capsys, arguments, says
):
    out = tmp_path / "run"
    arguments = ["--image-size", "6", *arguments, *cached]
    assert says in refusal(train_arguments(folder, out, *arguments), capsys)
    assert not out.exists()


def test_random_resized_crops_replace_the_default_crop(folder, cached):
    (_, cache), scale = cached, (0.25, 1.0)
    options = DataOptions(
        cache_dir=Path(cache), image_size=6, random_resized_crop=scale
    )
    augmentation = load_dataset(str(folder), options).augmentation
    assert augmentation == data.Augmentation(0, random_resized_crop=scale)


def test_a_damaged_image_is_named_in_one_line(tmp_path, cached, capsys):
    for part in ("train", "test"):
        (tmp_path / "x" / part / "one").mkdir(parents=True)
        (tmp_path / "x" / part / "one" / "1.png").write_text("no image")
    line = refusal(train_arguments(tmp_path / "x", tmp_path / "run", *cached), capsys)
    assert "train/one/1.png is not an image" in line


def test_data_says_what_it_passed_over(tmp_path, folder, cached, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    inside = next(path for path in (copy / "train").iterdir() if path.is_dir())
    for name in ("a.csv", "b.txt"):
        (inside / name).touch()
    cli.main(["data", str(copy), "--image-size", "8", *map(str, cached)])
    assert "2 files, .csv and .txt" in capsys.readouterr().out


def test_what_is_in_memory_is_not_streamed(tmp_path, quadrants, capsys):
    line = refusal(train_arguments(quadrants, tmp_path / "run", "--stream"), capsys)
    assert "held in memory" in line


@pytest.mark.parametrize(
    "scale, says",
    [(0, "all pixels of all images are 0"), (1 / 255, "divided by 255 twice")],
)
def test_a_command_says_what_is_doubtful_about_the_pixels(
    tmp_path, capsys, scale, says
):
    dataset = make_dataset()
    images = (scale / 255 * dataset.train.images).astype(np.float32)
    labels = dataset.train.labels
    path = tmp_path / "doubtful.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    load_dataset(str(path), DataOptions())
    error = capsys.readouterr().err
    assert error.count("warning:") == 1
    assert says in error
