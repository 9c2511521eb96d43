"""One run at a time in a folder."""

import os
import socket
import subprocess
import sys

import pytest

from jaxkd import runs
from jaxkd._errors import InvalidInputError

pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from jaxkd import runs
with runs.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_once_and_free_after_a_kill(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    says = rf"is in use by process {holder.pid} on {socket.gethostname()}\."
    with pytest.raises(InvalidInputError, match=says):
        runs.check_free(folder)
    with pytest.raises(InvalidInputError, match=says), runs.hold(folder):
        pass
    holder.kill()
    holder.communicate()
    runs.check_free(folder)
    with runs.hold(folder):
        pass


def test_it_is_released_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), runs.hold(tmp_path):
        raise ZeroDivisionError
    runs.check_free(tmp_path)


def test_asking_creates_nothing(tmp_path):
    runs.check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_needs_a_folder_that_is_empty_or_absent(tmp_path):
    runs.check_out(tmp_path / "none", resume=False)
    runs.check_out(tmp_path, resume=False)
    (tmp_path / "lock").touch()  # left by a run that ended before it wrote anything
    runs.check_out(tmp_path, resume=False)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidInputError, match=r"already exists\. Choose another"):
        runs.check_out(tmp_path, resume=False)
    (tmp_path / "config.json").touch()
    with pytest.raises(InvalidInputError, match=r"already exists\. Add --resume"):
        runs.check_out(tmp_path, resume=False)
    with pytest.raises(InvalidInputError, match="already exists"):
        runs.check_out(tmp_path / "notes.txt", resume=False)


CONTENTS = {
    "text": lambda lock: lock.write_text("my own lock"),
    "bytes": lambda lock: lock.write_bytes(b"\xff\x00"),
    "link": lambda lock: lock.symlink_to("../precious"),
    "dangling link": lambda lock: lock.symlink_to("nowhere"),
    "folder": lambda lock: lock.mkdir(),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_lock_that_no_run_has_written_is_left_alone(tmp_path, content):
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.write_text("precious")
    run.mkdir()
    CONTENTS[content](run / "lock")
    before = (run / "lock").lstat()
    with pytest.raises(InvalidInputError, match="already exists"):
        runs.check_out(run, resume=False)
    with pytest.raises(InvalidInputError, match="was not written by a run"):
        runs.check_free(run)
    with (
        pytest.raises(InvalidInputError, match="was not written by a run"),
        runs.hold(run),
    ):
        pass
    after = (run / "lock").lstat()
    assert (before.st_mode, before.st_size) == (after.st_mode, after.st_size)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("content", ["", "process 7 on host\n", "process 7 on host"])
def test_a_lock_that_a_run_has_left_is_taken(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    runs.check_out(tmp_path, resume=False)
    with runs.hold(tmp_path):
        held = (tmp_path / "lock").read_text()
        assert held == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert (tmp_path / "lock").read_text() == ""


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "path, says",
    [
        ("x/" * 2000, "has more than .* bytes"),
        ("x" * 300, "has a name of more than 255 bytes"),
        ("file/run", "lies below .*file, which is not a folder"),
        ("file/a/b/run", "lies below .*file, which is not a folder"),
        ("/dev/null/run", "lies below /dev/null, which is not a folder"),
        ("loop/run", "cannot be used"),
        ("nu\0ll", "a null character"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, path, says, resume):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidInputError, match=rf"{says}.*Choose another --out\.$"):
        runs.check_out(tmp_path / path, resume=resume)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize(
    "path", ["a/b/c", "[0.1]", "-dash", "new\nline", "~name", "ü", "x" * 255]
)
def test_a_folder_that_can_be_made_is_accepted(tmp_path, path):
    runs.check_out(tmp_path / path, resume=False)
    assert list(tmp_path.iterdir()) == []


def test_a_run_to_resume_must_be_there_and_free(tmp_path):
    with pytest.raises(InvalidInputError, match="contains no run to resume"):
        runs.check_out(tmp_path, resume=True)
    (tmp_path / "config.json").touch()
    runs.check_out(tmp_path, resume=True)
    with runs.hold(tmp_path):
        with pytest.raises(InvalidInputError, match="is in use by process"):
            runs.check_out(tmp_path, resume=True)
        runs.check_out(tmp_path, resume=True, held=True)
