"""``jaxkd report``."""

from rich.console import Console

from jaxkd import reports
from jaxkd.cli._options import Report


def run(options: Report, arguments: list[str]) -> None:
    """Compare finished runs in a table, and print it."""
    del arguments
    table = reports.write_comparison(
        options.runs, options.out, baseline=options.baseline
    )
    console = Console()
    console.print(table, highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"Table and curves are in {options.out}", highlight=False, soft_wrap=True
    )
