"""Metrics on disk: JSON lines and TensorBoard event files."""

import math
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxkd import _json
from jaxkd._errors import InvalidInputError
from jaxkd._files import naming, write_whole
from jaxkd.runs import _schema
from jaxkd.runs._files import parse_json, read_text
from jaxkd.runs._folder import RunFolder

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
        history: The records of the epochs before that step, which replace those in the
            file; None keeps those in the file.
    """

    def __init__(
        self,
        directory: Path,
        *,
        resumed_at: int = 0,
        history: Sequence[Record] | None = None,
    ):
        self._folder = RunFolder(Path(directory).absolute())
        self._events = None
        self.rewind(resumed_at, history)

    def rewind(self, step: int, history: Sequence[Record] | None = None) -> None:
        """Drop the records of later steps, because training repeats those epochs.

        A summary is removed: it is written again when training ends.
        """
        from tensorboardX.event_file_writer import EventsWriter  # slow to import

        path = self._folder.metrics
        records = read_records(path) if history is None else history
        kept = [record for record in records if record["step"] <= step]
        write_whole(path, "".join(_line(record) for record in kept).encode())
        self._folder.summary.unlink(missing_ok=True)
        self.close()
        # Event files are named after the second in which they are created.
        suffix = f".{uuid.uuid4().hex[:8]}"
        with naming(self._folder.events):
            self._events = EventsWriter(str(self._folder.events), suffix)
            if step:
                start = {"status": "START"}
                self._events.write_event(_event(step=step + 1, session_log=start))
            self._events.flush()

    def __call__(self, record: Record) -> None:
        """Write one record, which must have a ``step``."""
        assert self._events is not None
        path = self._folder.metrics
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        values = [
            {"tag": name, "simple_value": value}
            for name, value in record.items()
            if isinstance(value, float) and math.isfinite(value)
        ]
        event = _event(step=record["step"], summary={"value": values})
        with naming(self._folder.events):
            self._events.write_event(event)
            self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._events is not None:
            self._events.close()
            self._events = None


def read_records(file: Path) -> list[Record]:
    """Read the records of ``metrics.jsonl``; an empty list if there is no such file.

    An incomplete last line, left by a killed process, is ignored. Infinity and NaN,
    which JSON cannot represent, are strings in the file and floats in the result.

    Raises:
        InvalidInputError: If the file is damaged. The message names the line.
    """
    try:
        lines = read_text(file).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, f"{file}, line {number},")
        except InvalidInputError:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise
        records.append(_with_floats(record))
    check_records(file, records)
    return records


def check_records(file: Path | str, records: Sequence[Record]) -> None:
    """Check records, each by itself and in their order.

    Raises:
        InvalidInputError: Naming the line, the entry, its value and what was expected.
    """
    before: Record = {}
    for number, record in enumerate(records, start=1):
        _schema.check_record(file, record, number)
        for name in ("step", "epoch"):
            if name in record and record[name] <= before.get(name, 0):
                line = f"{file}, line {number},"
                wanted = f"larger than in the line before, {before[name]}"
                raise _schema.wrong(line, name, record[name], wanted)
        before = record


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
