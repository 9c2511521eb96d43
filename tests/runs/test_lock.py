import socket
import subprocess
import sys

import pytest

from jaxkd._errors import InvalidInputError
from jaxkd.runs import _lock

pytest.importorskip("fcntl")

HOLD = """
import sys, time
from pathlib import Path
from jaxkd.runs import _lock
with _lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_once_and_free_after_a_kill(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    says = f"is in use by process {holder.pid} on {socket.gethostname()};"
    with pytest.raises(InvalidInputError, match=says):
        _lock.check_free(folder)
    with pytest.raises(InvalidInputError, match=says), _lock.hold(folder):
        pass
    holder.kill()
    holder.communicate()
    _lock.check_free(folder)
    with _lock.hold(folder):
        pass


def test_it_is_released_with_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), _lock.hold(tmp_path):
        raise ZeroDivisionError
    _lock.check_free(tmp_path)


def test_asking_creates_nothing(tmp_path):
    _lock.check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []
