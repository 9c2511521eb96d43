"""``jaxkd audit``."""

import sys
from pathlib import Path

from rich.table import Table

from jaxkd import _audit
from jaxkd._files import write_whole
from jaxkd._messages import announce
from jaxkd.cli._console import Console
from jaxkd.cli._json_output import STDOUT, write_text
from jaxkd.cli._options import Audit
from jaxkd.cli._setting_values import parse_value
from jaxkd.reports._figures import save_png

_STYLES = {
    _audit.Verdict.FAULT: "bold red",
    _audit.Verdict.NOTE: "yellow",
    _audit.Verdict.CLEAN: "green",
    _audit.Verdict.SKIPPED: "dim",
}


def run(options: Audit, arguments: list[str]) -> None:
    """Audit a loss; exit with code 1 if a fault was found."""
    del arguments
    loss = _audit.load(options.target)
    announce(f"auditing {options.target}")
    report = _audit.audit(
        loss,
        kind=options.kind,
        except_=options.except_,
        temperature=options.temperature,
        settings={name: parse_value(x) for name, x in options.settings.items()},
        classes=options.classes,
        seed=options.seed,
    )
    if options.out is not None:
        _write(report, options.out)
    if options.json is not None:
        write_text(options.json, report.to_json())
    if options.json != STDOUT:
        _show(report, options.out)
    if not report.clean:
        sys.exit(1)


def _show(report: _audit.AuditReport, out: Path | None) -> None:
    """Print the table of checks, the findings and the conclusion."""
    console = Console()
    table = Table(title=f"Audit of {report.loss}", title_style="bold")
    for column in ("check", "result", "measured"):
        table.add_column(column)
    for each in report.outcomes:
        verdict = each.verdict
        table.add_row(each.check, verdict.value, each.summary, style=_STYLES[verdict])
    console.print(table)
    for finding in report.findings:
        for line in finding.lines:
            console.tell(line)
    if out is not None:
        console.tell(f"Wrote audit.json, audit.md and audit.png to {out}.")
    console.tell(report.conclusion)


def _write(report: _audit.AuditReport, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "audit.json", report.to_json().encode())
    text = report.to_markdown() + "\n![Errors in float32](audit.png)\n"
    write_whole(out / "audit.md", text.encode())
    save_png(out / "audit.png", report.plot())
