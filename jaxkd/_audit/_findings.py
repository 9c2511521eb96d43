"""Findings of an audit, and the outcome of each of its checks."""

import dataclasses
import enum
from collections.abc import Sequence


class Verdict(enum.Enum):
    """Outcome of a check, from best to worst."""

    SKIPPED = "skipped"
    CLEAN = "clean"
    NOTE = "note"
    FAULT = "FAULT"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        check: Name of the check that found it; ``except_`` takes this name.
        mistake: Short name of the mistake, such as ``"missing-temperature-factor"``.
        text: What is wrong, in one line.
        measured: The measured value.
        expected: The value that is right.
        where: The input at which it was measured.
        remedy: What to change.
        fault: Whether it makes the loss wrong. Otherwise it is a note.
    """

    check: str
    mistake: str
    text: str
    measured: str = ""
    expected: str = ""
    where: str = ""
    remedy: str = ""
    fault: bool = True

    @property
    def level(self) -> str:
        """How bad it is: ``FAULT`` or ``note``."""
        return (Verdict.FAULT if self.fault else Verdict.NOTE).value

    @property
    def lines(self) -> list[str]:
        """What was found and where, and how to fix it."""
        fix = [f"  fix: {self.remedy}"] if self.remedy else []
        return [f"{self.level} {self.mistake}: {self.line}", *fix]

    @property
    def line(self) -> str:
        """What was found and where, in one line."""
        parts = [self.text]
        if self.measured:
            right = f", where {self.expected} is right" if self.expected else ""
            parts.append(f"measured {self.measured}{right}")
        if self.where:
            parts.append(f"at {self.where}")
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of one check.

    Attributes:
        check: Name of the check.
        verdict: The worst of its findings, or whether it was skipped.
        summary: What was measured, in a few words.
        findings: What it found.
    """

    check: str
    verdict: Verdict
    summary: str
    findings: tuple[Finding, ...] = ()


def outcome(check: str, summary: str, findings: Sequence[Finding] = ()) -> Outcome:
    """Return the outcome of a check that ran."""
    verdict = Verdict.CLEAN
    if findings:
        faulty = any(finding.fault for finding in findings)
        verdict = Verdict.FAULT if faulty else Verdict.NOTE
    return Outcome(check, verdict, summary, tuple(findings))


def skipped(check: str, reason: str) -> Outcome:
    """Return the outcome of a check that does not apply."""
    return Outcome(check, Verdict.SKIPPED, reason)
