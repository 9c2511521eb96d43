"""Metrics on disk: JSON lines and TensorBoard event files."""

import json
import math
import time
import uuid
from pathlib import Path
from typing import Any

from jaxkd import _json

Record = dict[str, Any]

# How numbers that JSON cannot say are written.
_NOT_IN_JSON = ("nan", "inf", "-inf")


class MetricsWriter:
    """Appends every epoch's record to ``metrics.jsonl`` and to an event file.

    All is written before a call returns, by the caller's own thread: a full disk is an
    ``OSError`` there, and no thread is left behind that waits for it.

    Args:
        directory: The run folder.
        resumed_at: The step that training continues from; see :meth:`rewind`.
    """

    def __init__(self, directory: Path, *, resumed_at: int = 0):
        self._directory = Path(directory)
        self._path = self._directory / "metrics.jsonl"
        self._events = None
        self.rewind(resumed_at)

    def rewind(self, step: int) -> None:
        """Drops what was written of later steps: those epochs happen again."""
        from tensorboardX.event_file_writer import EventsWriter  # slow to import

        kept = [r for r in read_metrics(self._path) if r["step"] <= step]
        replacement = self._path.with_suffix(".tmp")
        try:
            replacement.write_text("".join(_line(record) for record in kept))
            replacement.replace(self._path)
        except OSError:
            replacement.unlink(missing_ok=True)
            raise
        self.close()
        # Event files are named after the second in which they begin.
        prefix, names = str(self._directory / "events"), f".{uuid.uuid4().hex[:8]}"
        self._events = EventsWriter(prefix, names)
        if step:
            start = {"status": "START"}
            self._events.write_event(_event(step=step + 1, session_log=start))
        self._events.flush()

    def __call__(self, record: Record) -> None:
        """Writes one record; it must have a ``step``."""
        assert self._events is not None
        with self._path.open("a") as file:
            file.write(_line(record))
        values = [
            {"tag": name, "simple_value": value}
            for name, value in record.items()
            if isinstance(value, float) and math.isfinite(value)
        ]
        self._events.write_event(_event(step=record["step"], summary={"value": values}))
        self._events.flush()

    def close(self) -> None:
        """Closes the event file."""
        if self._events is not None:
            self._events.close()
            self._events = None


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


def _event(**fields: Any) -> Any:
    """A TensorBoard event of now."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

    return Event(wall_time=time.time(), **fields)
