"""``jaxkd report``."""

from jaxkd import reports, runs
from jaxkd.cli._console import Console
from jaxkd.cli._options import Report


def run(options: Report, arguments: list[str]) -> None:
    """Compare finished runs in a table, and print it."""
    del arguments
    table = reports.write_comparison(
        options.runs, options.out, baseline=options.baseline, page=options.html
    )
    console = Console()
    for line in table.splitlines():
        console.tell(line)
    console.tell(f"Table and curves are in {options.out}")
    if options.html:
        # A comparison's page has the name of a run's page.
        console.tell(f"page: {runs.RunFolder(options.out).report}")
