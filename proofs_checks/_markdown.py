"""Tables as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any


def row(cells: Iterable[str]) -> str:
    """A row; bars within its cells are escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def header(columns: Iterable[str]) -> list[str]:
    """The names of the columns and the rule below."""
    columns = list(columns)
    return [row(columns), "|---" * len(columns) + "|"]


def table(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A row for each record, numbers with three digits."""
    records = list(records)
    return header(records[0]) + [
        row(f"{x:.3g}" if isinstance(x, float) else str(x) for x in record.values())
        for record in records
    ]
