"""Coq accepts the theorems about outputs of the library, and refuses wrong ones."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import proofs_checks
from proofs_checks import link

pytestmark = [
    pytest.mark.usefixtures("quickly_compiled"),
    pytest.mark.skipif(shutil.which("coqc") is None, reason="Coq is not installed"),
]

KERNEL = Path(proofs_checks.__file__).parent / "kernel"
REFUSED = "Numerical evaluation failed to conclude"


@pytest.fixture(scope="module")
def coqc(tmp_path_factory):
    """Compile a file of a folder, with the kernel's definitions and lemmas."""
    kernel = tmp_path_factory.mktemp("kernel")

    def compile_file(path, paths=()):
        command = ["coqc", "-Q", kernel, "Kernel", *paths, path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    probe = kernel / "Probe.v"
    probe.write_text(
        "From Interval Require Tactic. From Coquelicot Require Coquelicot."
    )
    if compile_file(probe).returncode:
        pytest.skip("Coquelicot and Interval are not installed")
    for name in ("Defs", "Sums", "Derivatives", "T01"):
        shutil.copy(KERNEL / f"{name}.v", kernel)
        compile_file(kernel / f"{name}.v").check_returncode()
    return lambda path: compile_file(path, ["-Q", path.parent, "Link"])


@pytest.fixture(scope="module")
def case():
    return link.measure("three", [1.0, 0.5, -2.0], [0.25, 3.0, -1.0], 4)


def check(coqc, folder, cases):
    """Write the theorems and compile them: the last process."""
    link.write(folder, cases)
    coqc(folder / "LinkLemmas.v").check_returncode()
    return coqc(folder / "LinkT4.v")


def test_an_output_is_proved_within_its_bound(coqc, case, tmp_path):
    assert case.eps <= 1e-14
    assert case.gradient_eps <= 1e-14
    assert check(coqc, tmp_path, [case]).returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda case: {"value": case.value + 10 * case.eps},
        lambda case: {"gradient": (*case.gradient[:2], case.gradient[2] + 1e-13)},
        lambda case: {"eps": case.eps / 10},
        lambda case: {"student": (1.0, 0.5, -2.0 + 1e-12)},
    ],
    ids=["value", "gradient", "eps", "logits"],
)
def test_coq_refuses_a_wrong_number(coqc, case, tmp_path, wrong):
    result = check(coqc, tmp_path, [dataclasses.replace(case, **wrong(case))])
    assert result.returncode != 0
    assert REFUSED in result.stderr


def test_the_listing_has_every_case(case, tmp_path):
    link.write(tmp_path, [case])
    (row,) = json.loads((tmp_path / "cases.json").read_text())
    assert row["name"] == "three"
    assert row["classes"] == 3
    assert row["temperature"] == 4
    assert row["value"] == case.value
    assert row["eps"] == case.eps


@pytest.mark.slow
def test_all_outputs_are_proved_within_their_bounds(coqc, tmp_path):
    cases = link.write(tmp_path)
    coqc(tmp_path / "LinkLemmas.v").check_returncode()
    for temperature in sorted({case.temperature for case in cases}):
        result = coqc(tmp_path / f"LinkT{temperature}.v")
        assert result.returncode == 0, result.stderr
    assert len(cases) >= 30
    assert max(case.eps / max(case.value, 1.0) for case in cases) <= 1e-12
