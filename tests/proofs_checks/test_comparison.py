import copy
import json

import pytest

from proofs_checks import comparison
from proofs_checks._evidence import Check, Evidence, Settings, Verdict
from proofs_checks.certificate import Certificate, Result, to_json


def evidence(claim, verdict, measured, bound, **more):
    return Evidence(claim, verdict, 1500, measured, bound, "error", **more)


@pytest.fixture
def certificates():
    check = Check("T0", "Nothing", "0 = 0", ("none",), lambda s: (), lambda s: ())
    found = []
    for dtype, last in (("float64", Verdict.HOLDS), ("bfloat16", Verdict.LOST)):
        claims = (
            evidence("a | b", Verdict.HOLDS, 1e-16, 1e-13, detail="tightest: 0.9"),
            evidence(
                "c",
                last,
                3e-3,
                None if last is Verdict.LOST else 1e-2,
                table=({"K": 3},),
            ),
        )
        controls = (evidence("d", Verdict.REFUTED, 0.5, 0.1),)
        result = Result(check, claims, controls, 1.0)
        certificate = Certificate(Settings(dtype), {}, (result,))
        found.append(json.loads(to_json(certificate)))
    return found


def test_a_row_holds_what_each_dtype_measured_and_the_bound(certificates):
    page = comparison.page(certificates, "Made on a machine.")
    assert "| claim | checked by | float64 | bfloat16 | cases | unit |\n" in page
    assert (
        "| a \\| b | sampled | 1.0e-16 (1e-13) | 1.0e-16 (1e-13) | 1,500 | error |"
        in page
    )
    assert "| c | sampled | 3.0e-03 (0.01) | 3.0e-03 (lost) | 1,500 | error |" in page
    assert "| *must fail:* d | sampled | 5.0e-01 | 5.0e-01 | 1,500 | error |" in page


def test_a_failure_is_marked(certificates):
    certificates[1]["results"][0]["claims"][0]["verdict"] = Verdict.FAILS.value
    page = comparison.page(certificates, "Made on a machine.")
    assert (
        "| a \\| b | sampled | 1.0e-16 (1e-13) | **1.0e-16** (fails, bound 1e-13) |"
        in page
    )


def test_proofs_come_before_claims(certificates):
    proofs = [
        {"claim": "x = x", "checked_by": "kernel", "cases": 0, "measured": 0.0},
        {"claim": "f near x", "checked_by": "interval", "cases": 3, "measured": 1e-13},
    ]
    more = {"verdict": "holds", "unit": "largest eps", "detail": "", "table": []}
    certificates[0]["results"][0]["proofs"] = [proof | more for proof in proofs]
    certificates[0]["kernel"] = "Coq has checked 1 theorem."
    page = comparison.page(certificates, "Made on a machine.")
    assert "\nCoq has checked 1 theorem.\n" in page
    assert "| x = x | kernel | proved |  | all real numbers |  |\n" in page
    assert "| f near x | interval | proved |  | 3 | largest eps 1e-13 |\n| a" in page


def test_it_counts_what_holds_and_keeps_details_and_tables_of_the_first(certificates):
    page = comparison.page(certificates, "Made on a machine.")
    assert "float64: 2 of 2 claims hold; 1 of 1 controls fail" in page
    assert "bfloat16: 1 of 2 claims hold, 1 lost to rounding; 1 of 1" in page
    assert page.count("tightest: 0.9") == 1
    assert page.count("| K |\n|---|\n| 3 |") == 1


def test_certificates_of_different_statements_are_refused(certificates):
    shorter = copy.deepcopy(certificates[1])
    shorter["results"] = []
    with pytest.raises(ValueError, match="shorter"):
        comparison.page([certificates[0], shorter], "")
