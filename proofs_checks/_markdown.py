"""Markdown tables."""

from collections.abc import Iterable, Mapping
from typing import Any


def row(cells: Iterable[str]) -> str:
    """Return a table row. Bars inside the cells are escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def header(columns: Iterable[str]) -> list[str]:
    """Return the header row and the rule below it."""
    columns = list(columns)
    return [row(columns), "|---" * len(columns) + "|"]


def table(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a table with one row for each record and numbers with three digits."""
    records = list(records)
    return header(records[0]) + [
        row(f"{x:.3g}" if isinstance(x, float) else str(x) for x in record.values())
        for record in records
    ]
