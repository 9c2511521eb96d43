"""The report of an audit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxkd import _json
from jaxkd._audit._findings import Finding, Outcome
from proofs_checks import _markdown


@dataclasses.dataclass(frozen=True, repr=False)
class AuditReport:
    """What an audit found.

    Attributes:
        loss: Name of the loss.
        kind: Kind of its arguments.
        returns: What it returns for a batch.
        temperature: Name of its temperature parameter, or None.
        outcomes: The outcome of each check.
        excepted: Names of the checks that were excepted.
        series: Relative errors in float32 over the temperature, or over the size of
            the inputs: the columns of the plot.
        environment: Device and versions.
        seconds: Duration of the audit.
    """

    loss: str
    kind: str
    returns: str
    temperature: str | None
    outcomes: tuple[Outcome, ...]
    excepted: tuple[str, ...]
    series: Mapping[str, list[float]]
    environment: Mapping[str, str]
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether no fault was found. Notes do not count."""
        return not self.faults

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All faults and notes, faults first."""
        found = [f for outcome in self.outcomes for f in outcome.findings]
        return tuple(sorted(found, key=lambda finding: not finding.fault))

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that make the loss wrong."""
        return tuple(finding for finding in self.findings if finding.fault)

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(f.mistake for f in self.faults))
        return f"AuditReport({self.loss}: {names or 'clean'})"

    def raise_if_unclean(self) -> None:
        """Raise an ``AssertionError`` with the faults if there are any."""
        if not self.clean:
            raise AssertionError(self.to_text())

    def to_text(self) -> str:
        """Return the outcome of each check, and the findings, as plain text."""
        width = max(len(outcome.check) for outcome in self.outcomes)
        lines = [f"jaxkd audit of {self.loss} ({self.kind}; {self.returns})"]
        for outcome in self.outcomes:
            name = outcome.check.ljust(width)
            lines.append(f"  {name}  {outcome.verdict.value:7}  {outcome.summary}")
        lines += [line for finding in self.findings for line in finding.lines]
        lines.append(self.conclusion)
        return "\n".join(lines)

    @property
    def conclusion(self) -> str:
        """The result in one line."""
        number = len(self.faults)
        if not number:
            return f"{self.loss} is clean ({self.seconds:.1f} s)."
        plural = "" if number == 1 else "s"
        return f"{self.loss} has {number} fault{plural} ({self.seconds:.1f} s)."

    def to_json(self) -> str:
        """Return the report as JSON. NaN and infinity become strings."""
        content: dict[str, Any] = {
            "loss": self.loss,
            "clean": self.clean,
            "kind": self.kind,
            "returns": self.returns,
            "temperature": self.temperature,
            "excepted": list(self.excepted),
            "checks": [
                {
                    "check": each.check,
                    "verdict": each.verdict.value.lower(),
                    "summary": each.summary,
                }
                for each in self.outcomes
            ],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "series": dict(self.series),
            "environment": dict(self.environment),
            "seconds": round(self.seconds, 2),
        }
        return _json.dumps(content, indent=2) + "\n"

    def to_markdown(self) -> str:
        """Return the report as a Markdown page."""
        lines = [
            f"# Audit of {self.loss}",
            "",
            self.conclusion,
            "",
            f"Kind {self.kind}; returns {self.returns}; "
            f"temperature parameter: {self.temperature or 'none'}. "
            + ", ".join(f"{k} {v}" for k, v in self.environment.items())
            + ".",
            "",
            *_markdown.header(("check", "result", "measured")),
        ]
        lines += [
            _markdown.row((o.check, o.verdict.value, o.summary)) for o in self.outcomes
        ]
        for finding in self.findings:
            lines += ["", f"## {finding.mistake} ({finding.level.lower()})", ""]
            lines.append(f"{finding.line}.")
            if finding.remedy:
                lines += ["", f"Fix: {finding.remedy}."]
        return "\n".join(lines) + "\n"

    def plot(self) -> Any:
        """Draw the relative errors in float32, on logarithmic axes.

        Returns:
            A matplotlib figure: errors over the temperature, or over the size of the
            inputs for a loss without one.
        """
        from jaxkd._audit._plot import draw

        return draw(self)
