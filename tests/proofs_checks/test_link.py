"""Coq accepts the theorems about outputs of the library, and refuses wrong ones."""

import dataclasses
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

import proofs_checks
from proofs_checks import link

pytestmark = pytest.mark.usefixtures("quickly_compiled")

KERNEL = Path(proofs_checks.__file__).parent / "kernel"
REFUSED = "the computed interval is not within the bound"


@pytest.fixture(scope="module")
def case():
    return link.measure("three", [1.0, 0.5, -2.0], [0.25, 3.0, -1.0], 4.0)


@pytest.fixture(scope="module")
def limit():
    return link.measure("limit", [1.0, 0.5, -2.0], [0.25, 3.0, -1.1], math.inf)


@pytest.fixture(scope="module")
def top():
    student, teacher = [1.0, 0.5, -2.0, 0.0], [0.25, 3.0, -1.0, 1.5]
    return link.measure_top("top", student, teacher, 4.0, 2)


@pytest.fixture(scope="module")
def coqc(tmp_path_factory, case):
    """Write the theorems about cases and compile a file of them."""
    if shutil.which("coqc") is None:
        pytest.skip("Coq is not installed")
    kernel, folder = map(tmp_path_factory.mktemp, ("kernel", "link"))

    def compile_file(path):
        command = ["coqc", "-Q", kernel, "Kernel", "-Q", folder, "Link", path]
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
    link.write(folder, [case])
    compile_file(folder / "LinkLemmas.v").check_returncode()

    def write_and_compile(cases, name):
        link.write(folder, cases)
        return compile_file(folder / name)

    return write_and_compile


def test_an_output_is_proved_within_its_bound(coqc, case):
    assert case.eps <= 1e-14
    assert case.gradient_eps <= 1e-14
    assert coqc([case], "LinkT4.v").returncode == 0


def test_an_output_at_infinite_temperature_is_proved_within_its_bound(coqc, limit):
    assert limit.eps <= 1e-14
    assert coqc([limit], "LinkTinf.v").returncode == 0


def test_an_output_from_the_top_classes_is_proved_within_its_bound(coqc, top):
    assert top.keep == (False, True, False, True)
    assert top.eps <= 1e-13
    assert coqc([top], "LinkT4.v").returncode == 0


def test_coq_refuses_an_output_of_other_top_classes(coqc, top):
    wrong = dataclasses.replace(top, keep=(True, True, False, False))
    assert REFUSED in coqc([wrong], "LinkT4.v").stderr


@pytest.mark.parametrize(
    "wrong",
    [
        lambda case: {"value": case.value + 10 * case.eps},
        lambda case: {"gradient": (*case.gradient[:2], case.gradient[2] + 1e-13)},
        lambda case: {"eps": case.eps / 10},
    ],
    ids=["value", "gradient", "eps"],
)
def test_coq_refuses_a_wrong_number(coqc, case, wrong):
    result = coqc([dataclasses.replace(case, **wrong(case))], "LinkT4.v")
    assert result.returncode != 0
    assert REFUSED in result.stderr


def test_coq_refuses_a_wrong_value_at_infinite_temperature(coqc, limit):
    wrong = dataclasses.replace(limit, value=limit.value + 10 * limit.eps)
    assert REFUSED in coqc([wrong], "LinkTinf.v").stderr


def test_the_listing_has_every_case(case, limit, tmp_path):
    link.write(tmp_path, [case, limit])
    rows = json.loads((tmp_path / "cases.json").read_text())
    assert [row["name"] for row in rows] == ["three", "limit"]
    assert [row["temperature"] for row in rows] == [4.0, "inf"]
    assert [row["classes"] for row in rows] == [3, 3]
    assert [row["value"] for row in rows] == [case.value, limit.value]
    assert [row["eps"] for row in rows] == [case.eps, limit.eps]


@pytest.mark.slow
def test_all_outputs_are_proved_within_their_bounds(coqc):
    cases = link.cases()
    for temperature in sorted({case.temperature for case in cases}):
        result = coqc(cases, f"LinkT{temperature:g}.v")
        assert result.returncode == 0, result.stderr
    assert len(cases) >= 30
    assert max(case.eps / max(case.value, 1.0) for case in cases) <= 1e-13
