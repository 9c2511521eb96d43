"""Side-by-side certificates: ``python -m proofs_checks.comparison FOLDER ...``."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proofs_checks import _markdown
from proofs_checks._evidence import Verdict

_PURPOSE = (
    "This page shows the evidence for each of [the theorems](theorems.md): the largest "
    "deviation that `jaxkd verify` measured in each dtype, and the bound that it must "
    "keep. To make a certificate on your machine, run"
)

_COMMANDS = """\
```sh
jaxkd verify --out certificate    # float64: the identities
jaxkd verify --kernel --out certificate    # and the proofs in Coq
jaxkd verify --dtype float32 --cases 20000 --out certificate32
jaxkd verify --dtype bfloat16 --cases 20000 --out certificate16
```"""

_LEGEND = (
    "The columns of the dtypes show the largest deviation over all cases, in the unit "
    'of the last column, and its bound in parentheses. "Lost" means that rounding in '
    "that dtype does not keep the statement; the number shows the size of the error. "
    '"Checked by" says how: on sampled cases, symbolically for 2 to 4 classes, by '
    "Coq's kernel for all real numbers, or by interval arithmetic in Coq for single "
    "outputs. Each *must fail* row is a negative control, which drops one assumption. "
    "In bfloat16 the logits are rounded to bfloat16; the losses compute in float32. "
    "`python -m proofs_checks.comparison FOLDER ...` makes this page from the "
    "`certificate.json` files."
)


def page(certificates: Sequence[Mapping[str, Any]], about: str) -> str:
    """Return a Markdown page with a column for each certificate.

    Args:
        certificates: Contents of the ``certificate.json`` files, all with the same
            statements. The page shows the details and tables of the first one.
        about: A paragraph that says how the certificates were made.

    Raises:
        ValueError: If the certificates have different statements.
    """
    lines = ["# The certificate", "", _PURPOSE, "", _COMMANDS, "", about, ""]
    if certificates[0]["kernel"]:
        lines += [certificates[0]["kernel"], ""]
    lines += [_verdicts(certificate) for certificate in certificates]
    lines += ["", _LEGEND]
    dtypes = [certificate["settings"]["dtype"] for certificate in certificates]
    every_result = zip(*(c["results"] for c in certificates), strict=True)
    for results in every_result:
        lines += ["", f"## {results[0]['name']} {results[0]['title']}", ""]
        lines += _markdown.header(["claim", "checked by", *dtypes, "cases", "unit"])
        lines += [_proof(proof, len(dtypes)) for proof in results[0]["proofs"]]
        for kind, prefix in (("claims", ""), ("controls", "*must fail:* ")):
            for row in zip(*(result[kind] for result in results), strict=True):
                cells = [prefix + row[0]["claim"], row[0]["checked_by"]]
                cells += map(_cell, row)
                cells += [f"{row[0]['cases']:,}", row[0]["unit"]]
                lines.append(_markdown.row(cells))
        for evidence in _evidence(results[0]):
            if evidence["detail"]:
                lines += ["", f"{evidence['claim']}: {evidence['detail']}"]
            if evidence["table"]:
                lines += ["", *_markdown.table(evidence["table"])]
    return "\n".join(lines) + "\n"


def _proof(proof: Mapping[str, Any], columns: int) -> str:
    """Return the row of what Coq has proved."""
    known = "proved" if proof["verdict"] == Verdict.HOLDS.value else "**refused**"
    kernel = proof["checked_by"] == "kernel"
    cases = "all real numbers" if kernel else f"{proof['cases']:,}"
    measured = "" if kernel else f"{proof['unit']} {float(proof['measured']):.0e}"
    cells = [proof["claim"], proof["checked_by"], known, *[""] * (columns - 1)]
    return _markdown.row([*cells, cases, measured])


def _evidence(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from result["proofs"]
    yield from result["claims"]
    yield from result["controls"]


def _verdicts(certificate: Mapping[str, Any]) -> str:
    claims = [e for r in certificate["results"] for e in r["claims"]]
    controls = [e for r in certificate["results"] for e in r["controls"]]
    holds = sum(e["verdict"] == Verdict.HOLDS.value for e in claims)
    lost = sum(e["verdict"] == Verdict.LOST.value for e in claims)
    refuted = sum(e["verdict"] == Verdict.REFUTED.value for e in controls)
    rounding = f", {lost} lost to rounding" if lost else ""
    return (
        f"- {certificate['settings']['dtype']}: {holds} of {len(claims)} claims hold"
        f"{rounding}; {refuted} of {len(controls)} controls fail, as they must."
    )


def _cell(evidence: Mapping[str, Any]) -> str:
    measured = f"{float(evidence['measured']):.1e}"
    if evidence["verdict"] == Verdict.LOST.value:
        return f"{measured} (lost)"
    bound = evidence["bound"]
    if evidence["verdict"] in (Verdict.FAILS.value, Verdict.NOT_REFUTED.value):
        return f"**{measured}** (fails, bound {float(bound):g})"
    if bound is None or evidence["verdict"] == Verdict.REFUTED.value:
        return measured
    return f"{measured} ({float(bound):g})"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folder with a certificate.json",
    )
    parser.add_argument(
        "--about", default="", help="paragraph that says how they were made"
    )
    options = parser.parse_args()
    certificates = [
        json.loads((folder / "certificate.json").read_text())
        for folder in options.folders
    ]
    sys.stdout.write(page(certificates, options.about))


if __name__ == "__main__":
    main()
