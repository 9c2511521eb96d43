"""A certificate as a Markdown page."""

from collections.abc import Sequence
from pathlib import Path

from proofs_checks import _markdown
from proofs_checks._evidence import Evidence
from proofs_checks.certificate import Certificate


def to_markdown(certificate: Certificate, plots: Sequence[str] = ()) -> str:
    """Return the certificate as a Markdown page.

    Args:
        certificate: The certificate.
        plots: File names of plots to include.
    """
    settings, where = certificate.settings, certificate.environment
    verdict = "All statements hold." if certificate.holds else "**Some checks fail.**"
    lines = [
        f"# Certificate, {settings.dtype}",
        "",
        f"{verdict} Each negative control drops one assumption and must fail.",
        "",
        f"Seed {settings.seed}; {settings.cases:,} cases for T3 and T4; "
        + ", ".join(f"{key} {value}" for key, value in where.items())
        + ".",
        "",
    ]
    if certificate.kernel is not None:
        lines += [certificate.kernel.about(), ""]
    lines += [f"![{Path(plot).stem}]({plot})\n" for plot in plots]
    for result in certificate.results:
        check = result.check
        lines += [
            "",
            f"## {check.name} {check.title}",
            "",
            f"`{check.statement}`",
            "",
            f"Assumptions: {'; '.join(check.assumptions)}. {result.seconds:.1f} s.",
            "",
            *_markdown.header(
                ("claim", "verdict", "checked by", "cases", "measured", "bound", "unit")
            ),
        ]
        lines += [_row(evidence, "") for evidence in result.proofs + result.claims]
        lines += [_row(evidence, "control: ") for evidence in result.controls]
        details = [e for e in result.evidence if e.detail]
        lines += ["", *(f"- {e.claim}: {e.detail}" for e in details)]
        for evidence in result.evidence:
            if evidence.table:
                lines += ["", *_markdown.table(evidence.table)]
    return "\n".join(lines) + "\n"


def _row(evidence: Evidence, prefix: str) -> str:
    cells = (
        prefix + evidence.claim,
        evidence.verdict.value,
        evidence.checked_by,
        *_numbers(evidence),
    )
    return _markdown.row(cells)


def _numbers(evidence: Evidence) -> tuple[str, ...]:
    """Return the cells of cases, measured deviation, bound and unit."""
    if evidence.checked_by == "kernel":
        return "all real numbers", "", "", ""
    bound = "none" if evidence.bound is None else f"{evidence.bound:.0e}"
    return f"{evidence.cases:,}", f"{evidence.measured:.2e}", bound, evidence.unit
