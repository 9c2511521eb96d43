"""Metrics on disk: JSON lines and TensorBoard event files."""

import json
import math
from pathlib import Path
from typing import Any

from jaxkd import _json

Record = dict[str, Any]

# How numbers that JSON cannot say are written.
_NOT_IN_JSON = ("nan", "inf", "-inf")


class MetricsWriter:
    """Appends every epoch's record to ``metrics.jsonl`` and to an event file.

    Args:
        directory: The run folder.
        resumed_at: The step that training continues from. Later lines, written after
            the checkpoint by a run that was interrupted, are dropped: those epochs
            happen again.
    """

    def __init__(self, directory: Path, *, resumed_at: int = 0):
        from tensorboardX import SummaryWriter  # slow to import, only used here

        self._path = Path(directory) / "metrics.jsonl"
        kept = [r for r in read_metrics(self._path) if r["step"] <= resumed_at]
        text = "".join(_line(record) for record in kept)
        replacement = self._path.with_suffix(".tmp")
        replacement.write_text(text)
        replacement.replace(self._path)
        self._events = SummaryWriter(
            str(directory), purge_step=resumed_at + 1 if resumed_at else None
        )

    def __call__(self, record: Record) -> None:
        """Writes one record; it must have a ``step``."""
        with self._path.open("a") as file:
            file.write(_line(record))
        for name, value in record.items():
            if isinstance(value, float) and math.isfinite(value):
                self._events.add_scalar(name, value, record["step"])
        self._events.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._events.close()


def read_metrics(path: Path) -> list[Record]:
    """The records of a ``metrics.jsonl``, without a last line cut short by a kill.

    Infinite values and NaN, which JSON cannot say, are strings in the file and floats
    again here.
    """
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        records.append(_with_floats(record))
    return records


def _with_floats(value: Any) -> Any:
    """The value with floats where it has their names, at any depth."""
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return float(value) if value in _NOT_IN_JSON else value


def _line(record: Record) -> str:
    return _json.dumps(record) + "\n"
