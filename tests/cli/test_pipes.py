"""Output whose reader has ended, and disks that are full."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from cli_arguments import train_arguments

from jaxkd import runs, training
from jaxkd._messages import say
from jaxkd.cli import _pipes, main

ENDED = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
]
MAIN = "from jaxkd.cli import main; main()"


class Failing:
    """A stream that fails from the second write on."""

    encoding = "utf-8"

    def __init__(self, error):
        self.error = error
        self.written = []

    def write(self, text):
        if self.written:
            raise self.error
        self.written.append(text)

    def flush(self):
        raise self.error


@pytest.mark.parametrize("error", ENDED)
@pytest.mark.parametrize("fails", ["write", "flush"])
def test_a_display_that_cannot_be_written_is_silent_and_says_so_once(
    error, fails, capsys, monkeypatch
):
    monkeypatch.setattr(_pipes, "discard_stdout", lambda: None)
    stream = Failing(error)
    display = _pipes.UntilClosed(stream)
    display.write("one")
    if fails == "flush":
        display.flush()
    for _ in range(3):
        assert display.write("two") == 3
        display.flush()
    assert stream.written == ["one"]
    assert display.encoding == "utf-8"
    (line,) = capsys.readouterr().err.splitlines()
    assert f"stdout cannot be written ({error.strerror}); training continues" in line


def test_a_process_without_stdout_has_a_silent_display(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    _pipes.flush_stdout()
    display = _pipes.UntilClosed(sys.stdout)
    display.write("one")
    display.flush()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", ENDED)
def test_a_message_that_cannot_be_written_is_no_error(error, monkeypatch):
    stream = Failing(error)
    monkeypatch.setattr(sys, "stderr", stream)
    say("one")
    say("two")


def start(arguments, **settings):
    return subprocess.Popen([sys.executable, "-c", MAIN, *arguments], **settings)


def ended(process):
    """Waits for a process; returns its exit code and the lines on its stderr."""
    with process.stderr:
        lines = process.stderr.read().splitlines()
    return process.wait(), lines


@pytest.mark.slow
def test_a_run_whose_reader_has_ended_trains_to_its_end(tmp_path, quadrants):
    out = tmp_path / "run"
    process = start(
        train_arguments(quadrants, out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    code, (line,) = ended(process)
    assert code == 0
    assert "stdout cannot be written (Broken pipe)" in line
    assert runs.read_summary(out)["epochs"] == 3


@pytest.mark.slow
def test_without_a_reader_of_stderr_a_signal_still_saves(tmp_path, quadrants):
    out = tmp_path / "run"
    process = start(
        train_arguments(quadrants, out, "--epochs", "100000"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    process.stderr.close()
    checkpoints = training.Checkpoints(out / "checkpoints")
    while not checkpoints.steps():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert checkpoints.latest() is not None


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 8, 40])
def test_a_full_disk_is_one_line_that_names_a_path(tmp_path, quadrants, kilobytes):
    out = tmp_path / "run"
    limit = kilobytes * 1024
    process = start(
        [*train_arguments(quadrants, out, "--report"), "--width", "128"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "0"},
    )
    # Long before the first write: the imports alone take a second.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    code, (line,) = ended(process)
    assert code == 2
    assert str(out) in line
    assert "File too large" in line
    # What is left is a run that can be resumed.
    assert not out.exists() or training.Checkpoints(out / "checkpoints").steps()
    assert not [path for path in out.rglob("*") if "tmp" in path.name]


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"], ["--version"]])
@pytest.mark.parametrize("missing", ["stdout", "stderr"])
def test_a_process_may_be_started_without_a_stream(
    arguments, missing, monkeypatch, capsys
):
    monkeypatch.setattr(sys, missing, None)
    with contextlib.suppress(SystemExit):
        main(arguments)
    getattr(sys, missing).close()
    shown = capsys.readouterr()
    assert bool(shown.out) == (missing == "stderr")
    assert shown.err == ""


def test_without_stderr_no_message_gets_into_stdout(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", "none"])
    sys.stderr.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["--version"], ["methods"]]
)
def test_a_full_disk_behind_stdout_is_one_line(arguments, monkeypatch, capsys):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxkd: cannot write")
    assert line.endswith("stdout (No space left on device)")


@pytest.mark.parametrize("columns", ["-5", "0", "1", "20", "40", "abc"])
def test_help_ends_in_a_terminal_of_any_width(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit, match="0"):
        main(["report", "--help"])
    assert "report.md" in " ".join(capsys.readouterr().out.split())
    assert os.environ["COLUMNS"] == columns
