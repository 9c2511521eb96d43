"""Requests to end."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from cli_arguments import train_arguments

from jaxkd import cli, training
from jaxkd.cli import _signals

needs_main_thread = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="signals are handled in the main thread",
)


@needs_main_thread
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_and_handlers_come_back(number):
    # A shell starts a command in the background with SIGINT ignored.
    started_with = signal.signal(number, signal.default_int_handler)
    before = [signal.getsignal(n) for n in _signals.SIGNALS]
    with _signals.stop_when_asked() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not stop() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert stop()
    after = [signal.getsignal(n) for n in _signals.SIGNALS]
    signal.signal(number, started_with)
    assert after == before


def test_in_another_thread_nothing_is_handled():
    found = []

    def enter():
        with _signals.stop_when_asked() as stop:
            found.append(stop())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]


# One call into C that runs for a minute, as XLA's compiler may.
BUSY = """
import hashlib
from jaxkd.cli._signals import stop_when_asked
with stop_when_asked():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
"""


def test_a_second_signal_ends_at_once_even_amid_a_long_call():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("jaxkd: SIGTERM: saving after")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


# Python ignores an exception of a garbage-collection callback or of a destructor.
SWALLOWED = """
import gc, os, signal, sys
from jaxkd.cli import _signals
number = int(sys.argv[1])
signal.signal(number, signal.default_int_handler)
gc.callbacks.append(lambda phase, info: os.kill(os.getpid(), number))
with _signals.ending_at_once(os._exit):
    gc.collect()
print("still here")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_a_callback_that_swallows_exceptions_ends_the_command(number):
    process = subprocess.run(
        [sys.executable, "-c", SWALLOWED, str(int(number))],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 128 + number
    assert (process.stdout, process.stderr) == ("", "jaxkd: interrupted\n")


@needs_main_thread
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_it_ends_a_command_cleans_up_and_handlers_come_back(number):
    def end(code):
        raise Ended(code)

    def fail():
        raise OSError

    started_with = signal.signal(number, signal.default_int_handler)
    before = [signal.getsignal(n) for n in _signals.SIGNALS]
    done = []
    with (
        contextlib.suppress(Ended),
        _signals.ending_at_once(end),
        _signals.before_ending(lambda: done.append("first")),
        _signals.before_ending(fail),
    ):
        with _signals.before_ending(lambda: done.append("no more")):
            pass
        os.kill(os.getpid(), number)
        done.append("not ended")
    after = [signal.getsignal(n) for n in _signals.SIGNALS]
    signal.signal(number, started_with)
    assert after == before
    assert done == ["first"]


# What is taken apart at the end of a process crashes, as XLA's threads may.
INTERRUPTED = """
import atexit, os, signal, sys, types
from jaxkd import cli
def run(options, arguments):
    print("so far", end="")
    raise KeyboardInterrupt
atexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))
sys.modules[cli.COMMANDS[cli._options.Methods]] = types.SimpleNamespace(run=run)
cli.main(["methods"])
"""


def test_an_interrupted_command_ends_before_anything_can_crash():
    process = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True
    )
    assert process.returncode == 130
    assert (process.stdout, process.stderr) == ("so far", "jaxkd: interrupted\n")


class Ended(Exception):
    """What stands for the end of the process."""


@pytest.mark.parametrize("moment", ["begin", "begin again"])
def test_before_there_is_anything_to_continue_an_interrupt_leaves_no_folder(
    tmp_path, quadrants, teacher, monkeypatch, moment
):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    def end(code):
        raise Ended(code)

    out = tmp_path / "run"
    more = ()
    monkeypatch.setattr(cli, "_end_at_once", end)
    if moment == "begin again":
        shutil.copytree(teacher, out)
        more = ("--resume",)
    monkeypatch.setattr(training, "fit", interrupt)
    with pytest.raises(Ended, match="130"):
        cli.main(train_arguments(quadrants, out, *more))
    assert out.exists() == bool(more)


def test_an_interrupted_run_says_how_to_continue_and_exits_with_75(
    tmp_path, quadrants, capsys, monkeypatch
):
    out = tmp_path / "a run"
    fit = training.fit
    asked = iter([False] * 4 + [True])

    def interrupted(*arguments, **settings):
        return fit(*arguments, **{**settings, "stop": lambda: next(asked)})

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", interrupted)
        with pytest.raises(SystemExit) as caught:
            cli.main(train_arguments(quadrants, out))
    assert caught.value.code == cli.RESUMABLE == 75
    (line,) = capsys.readouterr().err.splitlines()
    command = f"jaxkd train --dataset {quadrants} "
    assert f"interrupted after step 4; continue with: {command}" in line
    assert line.endswith(f"--out '{out}' --resume")
    assert training.Checkpoints(out / "checkpoints").latest() == 4
