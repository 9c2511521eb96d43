"""One run at a time in a folder."""

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


def test_a_run_to_resume_must_be_there_and_free(tmp_path):
    with pytest.raises(InvalidInputError, match="contains no run to resume"):
        runs.check_out(tmp_path, resume=True)
    (tmp_path / "config.json").touch()
    runs.check_out(tmp_path, resume=True)
    with runs.hold(tmp_path):
        with pytest.raises(InvalidInputError, match="is in use by process"):
            runs.check_out(tmp_path, resume=True)
        runs.check_out(tmp_path, resume=True, held=True)
