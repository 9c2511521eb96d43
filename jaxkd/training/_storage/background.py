"""Write one checkpoint at a time in a thread, from a copy of the state."""

import concurrent.futures
from collections.abc import Callable

import jax

from jaxkd.training._state import PyTree


class BackgroundWriter:
    """Runs at most one write at a time in a thread of its own.

    The error of a write is raised once, by the first method called after it.
    """

    def __init__(self):
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._writing: concurrent.futures.Future[None] | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin a write. No other may be in progress."""
        assert self._writing is None, "call wait first"
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(1, "jaxkd-checkpoint")
        self._writing = self._pool.submit(write)

    def poll(self) -> None:
        """Raise the error of the last write, if it has ended; do not wait for it."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written, and raise the error of the write."""
        if self._writing is None:
            return
        concurrent.futures.wait([self._writing])  # Ctrl-C here leaves it in progress
        ended, self._writing = self._writing, None
        ended.result()


def snapshot(arrays: PyTree) -> PyTree:
    """Copy arrays to the host, so that the next step may overwrite the originals.

    On CPU the copies are JAX arrays, and they may still be in progress: the next step
    waits for them by itself. The arrays of an accelerator become NumPy arrays, because
    its memory may have no room for a second state.
    """
    leaves = jax.tree.leaves(arrays)
    if any(device.platform != "cpu" for x in leaves for device in x.devices()):
        return jax.device_get(arrays)
    places = jax.tree.map(lambda x: x.sharding, arrays)
    return jax.device_put(arrays, places, may_alias=False)
