"""Metrics on disk: JSON lines and TensorBoard event files."""

import json
import math
import os
import time
import uuid
from pathlib import Path
from typing import Any

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd.runs._folder import RunFolder, write_text

Record = dict[str, Any]

# How the file spells the floats that JSON has no numbers for.
_NOT_IN_JSON = ("nan", "inf", "-inf")


class MetricsWriter:
    """Appends the record of each epoch to ``metrics.jsonl`` and to an event file.

    A call returns when the record is written, and writes in the calling thread: if the
    disk is full, the caller gets the ``OSError``, and no background thread is left
    waiting.

    Args:
        directory: The run folder.
        resumed_at: The step that training continues from; see :meth:`rewind`.
    """

    def __init__(self, directory: Path, *, resumed_at: int = 0):
        self._folder = RunFolder(Path(directory))
        self._events = None
        self.rewind(resumed_at)

    def rewind(self, step: int) -> None:
        """Drop the records of later steps, because training repeats those epochs."""
        from tensorboardX.event_file_writer import EventsWriter  # slow to import

        path = self._folder.metrics
        kept = [r for r in read_metrics(path) if r["step"] <= step]
        write_text(path, "".join(_line(record) for record in kept))
        self.close()
        # Event files are named after the second in which they are created.
        suffix = f".{uuid.uuid4().hex[:8]}"
        self._events = EventsWriter(str(self._folder.events), suffix)
        if step:
            start = {"status": "START"}
            self._events.write_event(_event(step=step + 1, session_log=start))
        self._events.flush()

    def __call__(self, record: Record) -> None:
        """Write one record, which must have a ``step``."""
        assert self._events is not None
        with self._folder.metrics.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        values = [
            {"tag": name, "simple_value": value}
            for name, value in record.items()
            if isinstance(value, float) and math.isfinite(value)
        ]
        self._events.write_event(_event(step=record["step"], summary={"value": values}))
        self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._events is not None:
            self._events.close()
            self._events = None


def read_metrics(path: str | os.PathLike) -> list[Record]:
    """Read the records of a run: one per epoch.

    An incomplete last line, left by a killed process, is ignored. Infinity and NaN,
    which JSON cannot represent, are strings in the file and floats in the result.

    Args:
        path: The run folder, or its ``metrics.jsonl``.

    Returns:
        The records in the order of training; an empty list if there is no file.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = RunFolder(file).metrics
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        records.append(_with_floats(record))
    return records


def read_history(run: Path) -> list[Record]:
    """Read the records of a run that has trained for at least one epoch.

    Raises:
        ValueError: If the run has no records yet.
    """
    history = read_metrics(run)
    if not history:
        raise InvalidInputError(
            f"{run} has no metrics yet: no epoch of training is finished. Train it "
            "first.",
            argument="run",
        )
    return history


def _with_floats(value: Any) -> Any:
    """Replace the strings for infinity and NaN with floats, at any depth."""
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    return float(value) if value in _NOT_IN_JSON else value


def _line(record: Record) -> str:
    return _json.dumps(record) + "\n"


def _event(**fields: Any) -> Any:
    """Make a TensorBoard event with the current time."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

    return Event(wall_time=time.time(), **fields)
