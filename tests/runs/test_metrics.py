"""Metrics written and read."""

import json
import math
import os
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxkd import runs


def read_events(path):
    """Reads a TensorBoard event file by its record format: length, crc, data, crc."""
    content, events, offset = path.read_bytes(), [], 0
    while offset < len(content):
        (length,) = struct.unpack_from("<Q", content, offset)
        events.append(Event.FromString(content[offset + 12 : offset + 12 + length]))
        offset += 12 + length + 4
    return events


def write(folder, steps, *, resumed_at=0):
    writer = runs.MetricsWriter(folder, resumed_at=resumed_at)
    for step in steps:
        writer({"step": step, "test/accuracy": step / 100})
    writer.close()


def steps_in(folder):
    return [record["step"] for record in runs.read_metrics(folder)]


def test_each_record_is_a_line_of_json(tmp_path):
    write(tmp_path, [3, 6])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 3, "test/accuracy": 0.03},
        {"step": 6, "test/accuracy": 0.06},
    ]


def test_numbers_that_json_lacks_are_strings_there_and_floats_when_read(tmp_path):
    writer = runs.MetricsWriter(tmp_path)
    writer({"step": 3, "test/loss": math.inf, "train/kd": -math.inf})
    writer({"step": 6, "test/loss": math.nan})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 3, "test/loss": "inf", "train/kd": "-inf"},
        {"step": 6, "test/loss": "nan"},
    ]
    first, second = runs.read_metrics(path)
    assert first == {"step": 3, "test/loss": math.inf, "train/kd": -math.inf}
    assert math.isnan(second["test/loss"])


def test_each_float_is_a_scalar_in_the_event_file(tmp_path):
    write(tmp_path, [3, 6])
    (file,) = tmp_path.glob("events.out.tfevents.*")
    scalars = [
        (event.step, value.tag, round(value.simple_value, 4))
        for event in read_events(file)
        for value in event.summary.value
    ]
    assert scalars == [(3, "test/accuracy", 0.03), (6, "test/accuracy", 0.06)]


def test_resuming_drops_what_was_written_after_the_checkpoint(tmp_path):
    write(tmp_path, [3, 6, 9])
    write(tmp_path, [9, 12], resumed_at=6)
    assert steps_in(tmp_path) == [3, 6, 9, 12]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    write(tmp_path, [3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "test/acc')
    assert steps_in(tmp_path) == [3]


def test_a_run_that_wrote_nothing_has_no_records(tmp_path):
    assert runs.read_metrics(tmp_path / "metrics.jsonl") == []
    assert runs.read_metrics(str(tmp_path)) == []
    with pytest.raises(ValueError, match="has no metrics yet"):
        runs.read_history(tmp_path)


def test_going_back_drops_later_lines_and_begins_an_event_file_that_says_so(tmp_path):
    writer = runs.MetricsWriter(tmp_path)
    for step in (3, 6):
        writer({"step": step, "test/accuracy": 0.5})
    writer.rewind(3)
    writer({"step": 6, "test/accuracy": 0.75})
    writer.close()
    assert steps_in(tmp_path) == [3, 6]
    files = [read_events(path) for path in tmp_path.glob("events.out.tfevents.*")]
    ((purged, second),) = [
        (events[1].step, events[2].summary.value[0].simple_value)
        for events in files
        if events[1].HasField("session_log")
    ]
    assert (len(files), purged, second) == (2, 4, 0.75)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_in_the_callers_thread(tmp_path):
    writer = runs.MetricsWriter(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    for _ in range(20):  # more than any queue of pending events would hold
        with pytest.raises(OSError, match="No space left"):
            writer({"step": 3, "test/accuracy": 0.5})
    writer.close()
