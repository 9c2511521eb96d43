"""Signals that ask a run to stop."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from jaxkd._messages import say, take_erasure

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_before_ending: list[Callable[[], None]] = []


@contextlib.contextmanager
def ending_at_once(end: Callable[[int], NoReturn]) -> Iterator[None]:
    """End the process at a SIGTERM or SIGINT, before training has begun.

    The handler itself ends the process. An exception that it raised could be swallowed:
    Python ignores those of a garbage-collection callback or a destructor. A signal that
    was ignored stays ignored. Processes that this one has forked end at once.

    Args:
        end: Ends the process with an exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        for other in SIGNALS:  # nothing interrupts the cleanup
            signal.signal(other, signal.SIG_IGN)
        for clean in reversed(_before_ending):
            # A failure to clean up must not keep the process from ending.
            with contextlib.suppress(Exception):
                clean()
        # The signal may have come amid a write to the buffer of stderr.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            text = f"{take_erasure()}jaxkd: interrupted\n"
            os.write(sys.stderr.fileno(), text.encode())
        end(128 + number)

    before = _handle_signals(handle)
    try:
        yield
    finally:
        _restore_handlers(before)


@contextlib.contextmanager
def before_ending(clean: Callable[[], None]) -> Iterator[None]:
    """Call a function before :func:`ending_at_once` ends the process."""
    _before_ending.append(clean)
    try:
        yield
    finally:
        _before_ending.remove(clean)


def _handle_signals(handler: Callable[[int, FrameType | None], object]) -> dict:
    """Set a handler for the signals that are not ignored; return the earlier ones."""
    return {
        number: signal.signal(number, handler)
        for number in SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }


def _restore_handlers(before: dict) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def stop_when_asked(
    answer: str = "saving after the current step",
) -> Iterator[Callable[[], bool]]:
    """Treat the first SIGTERM or SIGINT as a request to stop; exit at the second.

    Python runs signal handlers between two bytecode instructions, so not while XLA
    compiles. The interpreter writes to a wakeup socket at the moment of a signal, and
    a thread that reads from that socket does not have to wait. On exit, the earlier
    handlers are restored. A signal that was ignored stays ignored.

    Args:
        answer: The message on the first signal.

    Yields:
        A function that returns whether a signal has arrived.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may handle signals
        return
    asked = threading.Event()
    wake, write = socket.socketpair()
    write.setblocking(False)
    names = {int(number): number.name for number in SIGNALS}

    def watch():
        while received := wake.recv(1):
            number = received[0]
            if number not in names:
                continue
            if asked.is_set():
                os._exit(128 + number)
            asked.set()
            say(f"{names[number]}: {answer}; a second signal stops the run immediately")

    before = _handle_signals(lambda *_: None)
    descriptor = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(descriptor)
        _restore_handlers(before)
        write.close()
        watcher.join()
        wake.close()
