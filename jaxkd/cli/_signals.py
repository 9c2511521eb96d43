"""Signals that ask a run to stop."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from jaxkd._messages import say

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_when_asked() -> Iterator[Callable[[], bool]]:
    """Treat the first SIGTERM or SIGINT as a request to stop; exit at the second.

    Python runs signal handlers between two bytecode instructions, so not while XLA
    compiles. The interpreter writes to a wakeup socket at the moment of a signal, and
    a thread that reads from that socket does not have to wait. On exit, the earlier
    handlers are restored. A signal that was ignored stays ignored.

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
            say(
                f"{names[number]}: saving after the current step; a second signal "
                "stops the run immediately"
            )

    before = {
        number: signal.signal(number, lambda *_: None)
        for number in SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    descriptor = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        write.close()
        watcher.join()
        wake.close()
