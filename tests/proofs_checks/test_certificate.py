import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import proofs_checks
from jaxkd import cli, losses
from proofs_checks import _main

SMALL = ["--only", "T12"]


def read(folder):
    return json.loads((folder / "certificate.json").read_text())


def test_the_table_and_the_verdict_are_printed(capsys):
    assert _main.main(SMALL) == 0
    printed = capsys.readouterr().out
    assert "InfoNCE bounds information" in printed
    assert "4 hold" in printed
    assert "1 of 1 fail" in printed
    assert "every statement holds" in printed


def test_a_failed_check_exits_with_1_and_names_the_worst_case(capsys, monkeypatch):
    def wrong(student, teacher, *, temperature, stop_teacher_gradient=True):
        return 2 * temperature * (student.max(-1) - teacher.max(-1))

    monkeypatch.setattr(losses, "soft_target_kl", wrong)
    assert _main.main(["--only", "T6", "--cases", "500"]) == 1
    printed = capsys.readouterr().out
    assert "worst: classes" in printed
    assert "python -m proofs_checks --only T6 --seed 0 --cases 500" in printed
    assert "no certificate" in printed


@pytest.mark.slow
def test_the_report_is_json_markdown_and_pictures(tmp_path):
    assert (
        _main.main(["--only", "T12", "T3", "--cases", "500", "--out", str(tmp_path)])
        == 0
    )
    content = read(tmp_path)
    assert content["holds"] is True
    assert [result["name"] for result in content["results"]] == ["T12", "T3"]
    assert {"backend", "device", "jax", "flax", "optax"} <= content[
        "environment"
    ].keys()
    page = (tmp_path / "certificate.md").read_text()
    assert "## T12 InfoNCE bounds information" in page
    assert "| control: the positive left out of the denominator |" in page
    for name in ("band.png", "information.png"):
        assert name in page
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (1200, 750)


def test_jaxkd_verify_runs_the_same_checks(tmp_path, capsys):
    cli.main(["verify", *SMALL, "--dtype", "float32", "--out", str(tmp_path)])
    assert read(tmp_path)["settings"] == {
        "dtype": "float32",
        "seed": 0,
        "cases": 100_000,
    }
    assert "every statement holds" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "T99"], "T99"),
        (["--cases", "0"], "cases must be at least 1, got 0"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
    ],
)
@pytest.mark.parametrize("command", [_main.main, lambda a: cli.main(["verify", *a])])
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, command, capsys):
    with pytest.raises(SystemExit) as caught:
        command(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_dtype_that_is_not_checked_is_refused():
    with pytest.raises(ValueError, match="float16"):
        proofs_checks.main_from_options(dtype="float16")


# A machine with an accelerator often has little more than these.
WITHOUT = """
import sys
for name in ("tyro", "tensorflow_datasets", "sklearn", "matplotlib", "sympy",
             "tensorboardX", "PIL", "array_record", "chex"):
    sys.modules[name] = None
from proofs_checks._main import main
sys.exit(main(["--only", "T8", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_needs_only_jax_flax_optax_and_jaxtyping(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 skipped" in done.stdout
    assert "no plots: matplotlib is absent" in done.stdout
    assert read(tmp_path)["environment"]["device"]


def test_the_checks_use_public_names_of_the_library_alone():
    sources = Path(proofs_checks.__file__).parent.glob("*.py")
    private = [
        (source.name, name)
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        for name in imported(node)
        if name.startswith("jaxkd") and "._" in name
    ]
    assert private == []


def imported(node):
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return []
