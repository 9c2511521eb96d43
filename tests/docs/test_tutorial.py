"""The tutorial: its commands run in an empty folder, and print what it shows."""

import contextlib
import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("sklearn")

from experiments import photo_patches
from jaxkd import cli

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
# What the program of the page does without.
BLOCKED = "import sys\nfor name in ('jax', 'jaxkd'): sys.modules[name] = None\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which all commands ran, with fewer epochs; and what they printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        commands = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S))
        for line in commands.replace("\\\n", " ").splitlines():
            match line.replace("--epochs 20", "--epochs 2").split():
                case ["pip", *_]:
                    pass
                case ["python", "-m", "experiments.photo_patches", *arguments]:
                    photo_patches.main(arguments)
                case ["jaxkd", *arguments]:
                    cli.main(arguments)
                case _:
                    pytest.fail(f"not a command of the page: {line}")
    return folder, printed.getvalue()


@pytest.mark.parametrize("line", [
    line
    for block in re.findall(r"```text\n(.*?)```", PAGE, re.S)[:2]
    for line in block.splitlines()
])  # fmt: skip
def test_the_data_are_those_that_the_page_shows(place, line):
    assert line in place[1]


def test_the_report_compares_the_rows_of_the_page(place):
    rows = r"^\| (teacher|student alone|kd|hkd\+kd) \| \d"
    table = (place[0] / "runs" / "report" / "report.md").read_text()
    assert re.findall(rows, table, re.M) == re.findall(rows, PAGE, re.M)


def test_the_program_without_jaxkd_predicts_as_jaxkd(place):
    folder, _ = place
    (program,) = re.findall(r"```py\n(.*?)```", PAGE, re.S)
    with (folder / "runs" / "new.csv").open() as file:
        expected = [f"{row['file']} {row['class']}" for row in csv.DictReader(file)]
    printed = subprocess.run(
        [sys.executable, "-c", BLOCKED + program],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert len(expected) == 3
    assert printed.splitlines() == expected
