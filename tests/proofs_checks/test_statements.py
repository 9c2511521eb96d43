"""Every statement holds, and every control fails."""

import pytest

import proofs_checks
from proofs_checks import CHECKS, Settings, Verdict

pytestmark = pytest.mark.slow

# Training has its own tests, on fewer steps.
QUICK = [name for name in CHECKS if name not in ("T9", "T10")]


@pytest.mark.parametrize("name", QUICK)
def test_holds_in_float64_and_its_controls_fail(name):
    certificate = proofs_checks.verify(Settings(cases=2500), [name])
    assert certificate.failures() == []
    (result,) = certificate.results
    assert all(e.verdict is Verdict.HOLDS for e in result.claims)
    assert all(e.verdict is Verdict.REFUTED for e in result.controls)
    assert result.claims
    assert result.controls


@pytest.mark.parametrize("name, dtype", [("T14", "float32"), ("T4", "bfloat16")])
def test_holds_to_the_tolerance_of_a_narrower_dtype(name, dtype):
    certificate = proofs_checks.verify(Settings(dtype=dtype, cases=2500), [name])
    assert certificate.failures() == []
