import csv

import numpy as np
import pytest
from cli_arguments import refusal
from pictures import encode
from run_support import CONFIG, make_run

from jaxkd import cli, data, runs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def pictures(tmp_path, quadrants):
    """Test images as files, whose names have commas and quotes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(data.load(quadrants).test.images[:6, ..., 0]):
        (folder / f'{i}, "a".png').write_bytes(encode(image, "PNG"))
    return folder


def test_the_file_has_a_row_for_each_picture(tmp_path, teacher, quadrants, pictures):
    out = tmp_path / "new" / "predictions.csv"
    cli.main(["predict", str(teacher), str(pictures), "--out", str(out)])
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = runs.predict(teacher, [pictures])
    assert [row["file"] for row in rows] == [each.file for each in expected]
    assert [row["class"] for row in rows] == [each.class_name for each in expected]


def test_json_lines_are_chosen_by_the_suffix(tmp_path, teacher, pictures):
    out = tmp_path / "predictions.jsonl"
    cli.main(["predict", str(teacher), str(pictures), "--out", str(out)])
    expected = runs.format_predictions(runs.predict(teacher, [pictures]), "jsonl")
    assert out.read_text() == expected


def test_a_name_that_is_no_text_comes_back(tmp_path, teacher, pictures):
    name = b"\xff.png"
    with open(bytes(pictures) + b"/" + name, "wb") as file:
        file.write(encode(np.zeros((8, 8), np.uint8), "PNG"))
    out = tmp_path / "predictions.csv"
    cli.main(["predict", str(teacher), str(pictures), "--out", str(out)])
    assert b"/\xff.png," in out.read_bytes()


def test_an_unreadable_picture_is_named_and_nothing_written(
    tmp_path, teacher, pictures, capsys
):
    (pictures / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "predictions.csv"
    line = refusal(["predict", teacher, pictures, "--out", out], capsys)
    assert "broken.png is not an image" in line
    assert not out.exists()


@pytest.mark.parametrize(
    "name, says", [("x.txt", "must end in .csv or .jsonl"), ("x.csv", "exists already")]
)
def test_an_output_that_cannot_be_written_is_refused(
    tmp_path, pictures, capsys, name, says
):
    make_run(tmp_path / "run", config=CONFIG)
    (tmp_path / name).write_text("precious")
    arguments = ["predict", tmp_path / "run", pictures, "--out", tmp_path / name]
    assert says in refusal(arguments, capsys)
    assert (tmp_path / name).read_text() == "precious"


def test_a_path_without_pictures_is_refused(tmp_path, capsys):
    make_run(tmp_path / "run", config=CONFIG)
    arguments = ["predict", tmp_path / "run", tmp_path / "none", "--out", "x.csv"]
    line = refusal(arguments, capsys)
    assert "there is no folder or file" in line
    assert "--images" not in line  # it has no flag


def test_a_batch_needs_a_picture(tmp_path, pictures, capsys):
    make_run(tmp_path / "run", config=CONFIG)
    arguments = ["predict", tmp_path / "run", pictures, "--out", tmp_path / "x.csv"]
    line = refusal([*arguments, "--batch-size", "0"], capsys)
    assert "--batch-size must be at least 1, got 0" in line
