import ast
import json
import subprocess
import sys
from pathlib import Path

import chex
import numpy as np
import pytest
from PIL import Image

import proofs_checks
from jaxkd import InvalidInputError, cli, losses
from proofs_checks import CHECKS, Check, Settings, Verdict, _main
from proofs_checks._evidence import Worst, control


@pytest.fixture
def small(monkeypatch):
    """Replaces T2, which has no figure, by a statement that takes no time to check."""

    def claims(settings):
        del settings
        worst = Worst()
        worst.add([0.0, 0.5], lambda row: {"row": row})
        yield control("half", worst, 0.1, unit="error", detail="one half")

    check = Check("T2", "Small", "0.5 > 0.1", ("none",), lambda s: (), claims)
    monkeypatch.setitem(CHECKS, "T2", check)
    return ["--only", "T2"]


def read(folder):
    return json.loads((folder / "certificate.json").read_text())


def test_the_table_and_the_verdict_are_printed(capsys):
    assert _main.main(["--only", "T6", "--cases", "500"]) == 0
    printed = capsys.readouterr().out
    assert "Zero temperature" in printed
    assert "2 hold" in printed
    assert "1 of 1 fail" in printed
    assert "All statements hold" in printed


def test_a_failed_check_exits_with_1_and_names_the_worst_case(capsys, monkeypatch):
    def wrong(student, teacher, *, temperature, stop_teacher_gradient=True):
        return 2 * temperature * (student.max(-1) - teacher.max(-1))

    monkeypatch.setattr(losses, "soft_target_kl", wrong)
    assert _main.main(["--only", "T6", "--cases", "500"]) == 1
    printed = capsys.readouterr().out
    assert "worst case: classes" in printed
    assert "python -m proofs_checks --only T6 --seed 0 --cases 500" in printed
    assert "No certificate" in printed


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


def test_jaxkd_verify_runs_the_same_checks(tmp_path, capsys, small):
    cli.main(["verify", *small, "--dtype", "float32", "--out", str(tmp_path)])
    content = read(tmp_path)
    assert content["settings"] == {"dtype": "float32", "seed": 0, "cases": 100_000}
    (result,) = content["results"]
    assert result["statement"] == "0.5 > 0.1"
    assert result["controls"][0]["worst"] == {"row": 1}
    printed = capsys.readouterr().out
    assert "1 of 1 fail" in printed
    assert "All statements hold" in printed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "T99"], "T99"),
        (["--cases", "0"], "cases must be at least 1, got 0"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
        (["--seed", "4294967296"], "seed must be at most 2147483647, got 42949"),
    ],
)
@pytest.mark.parametrize("command", [_main.main, lambda a: cli.main(["verify", *a])])
def test_invalid_input_is_one_line_and_exit_code_2(arguments, message, command, capsys):
    with pytest.raises(SystemExit) as caught:
        command(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "options, argument",
    [
        ({"only": ["T99"]}, "only"),
        ({"cases": 0}, "cases"),
        ({"seed": -1}, "seed"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_an_error_carries_the_name_of_the_argument(options, argument):
    with pytest.raises(InvalidInputError, match=rf"^{argument} must") as caught:
        proofs_checks.main_from_options(**options)
    assert caught.value.argument == argument


def test_the_errors_of_python_m_proofs_checks_name_the_flag(capsys):
    with pytest.raises(SystemExit):
        _main.main(["--cases", "0"])
    assert "error: --cases must be at least 1, got 0" in capsys.readouterr().err


def test_a_failed_assertion_fails_its_statement_and_spares_the_others(monkeypatch):
    def claims(settings):
        del settings
        worst = Worst()
        worst.add(0.0, lambda row: {"row": row})
        yield control("nothing", worst, -1.0, unit="error")
        chex.assert_trees_all_close({"kernel": np.ones(2)}, {"kernel": np.zeros(2)})

    broken = Check("T12", "Broken", "0 = 1", (), claims, lambda s: ())
    whole = Check("T2", "Whole", "0 = 0", (), lambda s: (), lambda s: ())
    monkeypatch.setitem(CHECKS, "T12", broken)
    monkeypatch.setitem(CHECKS, "T2", whole)
    certificate = proofs_checks.verify(Settings(), ["T12", "T2"])
    failed, held = certificate.results
    assert held.holds
    assert [e.verdict for e in failed.claims] == [Verdict.REFUTED, Verdict.FAILS]
    (line,) = certificate.failures()
    assert "leaves 'kernel'" in line
    assert "Max absolute difference among violations: 1" in line


# Packages that a machine with an accelerator may lack. It needs only jax, flax, optax,
# chex and jaxtyping, and what these bring.
WITHOUT = """
import sys
for name in ("tyro", "tensorflow_datasets", "sklearn", "matplotlib", "sympy",
             "tensorboardX", "PIL", "array_record"):
    sys.modules[name] = None
from proofs_checks._main import main
sys.exit(main(["--only", "T8", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_runs_with_jax_flax_optax_chex_and_jaxtyping_alone(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 skipped" in done.stdout
    assert "No plots: matplotlib is not installed" in done.stdout
    assert read(tmp_path)["environment"]["device"]


NEEDED = {"jax", "flax", "optax", "chex", "jaxtyping", "numpy"}


def test_importing_the_checks_needs_no_other_package():
    """Follows the imports at the top of each module, from the package on."""
    folder = Path(proofs_checks.__file__).parent
    seen, queue = set(), ["__init__", "__main__"]
    packages = set()
    while queue:
        module = queue.pop()
        seen.add(module)
        tree = ast.parse((folder / f"{module}.py").read_text())
        for name in (name for node in tree.body for name in imported(node)):
            parts = name.split(".")
            packages.add(parts[0])
            if parts[0] == "proofs_checks" and (folder / f"{parts[1]}.py").exists():
                queue += {parts[1]} - seen
    assert {"certificate", "t14_invariance", "_main"} <= seen
    assert not seen & {"_console", "plots"}
    assert packages - sys.stdlib_module_names - {"proofs_checks", "jaxkd"} <= NEEDED


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
