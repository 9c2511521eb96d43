"""The page that takes a run to predictions: its commands and its programs run."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import encode

from jaxkd import cli, data, runs

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

PAGE = (Path(__file__).parents[2] / "docs" / "shipping.md").read_text()
# What the programs of the page do without.
BLOCKED = "import sys\nfor name in ('jaxkd', 'flax'): sys.modules[name] = None\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a student and photos, in which all commands of the page ran."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "photos").mkdir()
    for i, image in enumerate(data.load("digits").test.images[:3, ..., 0], start=1):
        (folder / "photos" / f"000{i}.png").write_bytes(encode(image, "PNG"))
    with contextlib.chdir(folder):
        settings = "--model mlp --width 32 --epochs 2 --no-report --out runs/student"
        cli.main(["train", "--dataset", "digits", *settings.split()])
        for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL):
            for line in block.splitlines():
                command, *arguments = line.split()
                assert command == "jaxkd"
                cli.main(arguments)
    return folder


def test_the_network_comes_back_from_safetensors(place):
    first, again = ((place / f"{x}.csv").read_text() for x in ("predictions", "again"))
    assert first == again


def test_the_results_are_those_of_the_run(place):
    results = json.loads((place / "results.json").read_text())
    summary = runs.read_summary(place / "runs" / "student")
    (accuracy,) = summary["trials"]["test_accuracy_last"]["values"]
    assert results["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    "program", re.findall(r"```py\n(.*?)```", PAGE, flags=re.DOTALL)
)
def test_programs_without_jaxkd_print_the_predicted_class(place, program):
    printed = subprocess.run(
        [sys.executable, "-c", BLOCKED + program],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with contextlib.chdir(place):
        (expected,) = runs.predict("runs/student", ["photos/0001.png"])
    assert printed == f"{expected.class_name}\n"


def test_the_code_for_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), {})
    assert printed.getvalue().count("onnx [") == 2
