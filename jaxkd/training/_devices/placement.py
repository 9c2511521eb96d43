"""Placement of arrays on one device, or on the devices of a mesh."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxkd import memory
from jaxkd._errors import InvalidInputError
from jaxkd.training._state import TRIAL_AXES, LoopState, PyTree

_AXES = ("trial", "data")


class Placement:
    """The shardings of an experiment's arrays; XLA does the rest.

    Batches and the rows of banks are divided over the axis ``data``, trials over the
    axis ``trial``. All other arrays are on every device. The steps are the program of
    one device, which XLA partitions: means, batch statistics and graphs are over the
    whole batch. Without a mesh, all methods leave arrays where JAX puts them.

    Args:
        mesh: Devices, with axes ``data`` and ``trial``, or one of them.
        batch_size: Examples in a batch.
        trials: Number of students, or None.

    Raises:
        ValueError: If the mesh has another axis, or does not divide the batch and the
            trials evenly.
    """

    def __init__(self, mesh: Mesh | None, batch_size: int, trials: int | None):
        self.mesh = None if mesh is None else _both_axes(mesh)
        if self.mesh is None:
            return
        given, sizes = dict(self.mesh.shape), {"data": batch_size, "trial": trials or 1}
        for axis, what in (("data", "batch_size"), ("trial", "trials")):
            if sizes[axis] % given[axis]:
                raise InvalidInputError(
                    f"{what} must be a multiple of the mesh's axis {axis}, "
                    f"got {sizes[axis]} over {given[axis]} devices",
                    argument=what,
                )

    @property
    def trial_devices(self) -> int:
        """The number of devices over which trials are divided."""
        return 1 if self.mesh is None else self.mesh.shape["trial"]

    @property
    def vmap_axis(self) -> str | None:
        """The ``spmd_axis_name`` of a ``jax.vmap`` over trials."""
        return None if self.mesh is None else "trial"

    def within(self, function: Callable) -> Callable:
        """Trace the function with the mesh in use: banks divide their rows by it."""
        if (mesh := self.mesh) is None:
            return function

        @functools.wraps(function)
        def wrapped(*arguments):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments)

        return wrapped

    def put(self, tree: PyTree) -> PyTree:
        """Put host arrays, which must be the same in every process, on every device."""
        if self.mesh is None:
            return jax.tree.map(_uncommitted, tree)
        everywhere = self._sharding()

        def put(leaf):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                data = put(jax.random.key_data(leaf))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
            host = np.asarray(leaf)
            return jax.make_array_from_callback(
                host.shape, everywhere, lambda index: host[index]
            )

        return jax.tree.map(put, tree)

    def own_rows(self, batch_size: int) -> np.ndarray:
        """Return the rows of a batch on this process's devices, in increasing order."""
        if self.mesh is None or batch_size % self.mesh.shape["data"]:
            return np.arange(batch_size)
        sharding = self._sharding("data")
        places: Any = sharding.addressable_devices_indices_map((batch_size,))
        spans = {index[0].indices(batch_size) for index in places.values()}
        return np.concatenate([np.arange(*span) for span in sorted(spans)])

    def put_rows(self, own: np.ndarray, batch_size: int, *, axis: int = 0) -> jax.Array:
        """Divide a batch over the axis ``data``.

        Args:
            own: The batch's :meth:`own_rows`, on the host.
            batch_size: Number of rows of the whole batch.
            axis: The axis of the rows; 1 for the batches of several steps.
        """
        if self.mesh is None or batch_size % self.mesh.shape["data"]:
            return self.put(own)
        first, before = self.own_rows(batch_size), (None,) * axis

        def of(index):
            start, stop, _ = index[axis].indices(batch_size)
            at = int(np.searchsorted(first, start))
            return own[(*(slice(None) for _ in before), slice(at, at + stop - start))]

        shape = (*own.shape[:axis], batch_size, *own.shape[axis + 1 :])
        sharding = self._sharding(*before, "data")
        return jax.make_array_from_callback(shape, sharding, of)

    def everywhere(self, tree: PyTree) -> PyTree:
        """Inside a compiled function: put arrays on every device."""
        return self._constrain(tree, self._sharding)

    def over_data(self, tree: PyTree) -> PyTree:
        """Inside a compiled function: divide arrays whose leading axis is the batch."""
        return self._constrain(tree, lambda: self._sharding("data"))

    def _constrain(self, tree: PyTree, sharding: Callable[[], Any]) -> PyTree:
        if self.mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, sharding())

    def state(self, loop: LoopState, *, stacked: bool) -> LoopState:
        """Inside a compiled function: place a state; ``stacked`` if it has trials."""
        if self.mesh is None:
            return loop
        shardings = self.shardings(loop, stacked=stacked)
        return jax.lax.with_sharding_constraint(loop, shardings)

    def abstract(self, loop: LoopState, *, stacked: bool) -> LoopState:
        """Add shardings to a state of abstract arrays."""
        if self.mesh is None:
            return loop
        return jax.tree.map(
            lambda leaf, there: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=there
            ),
            loop,
            self.shardings(loop, stacked=stacked),
        )

    def shardings(self, loop: LoopState, *, stacked: bool) -> LoopState:
        """Return the sharding of each array of a state."""
        lead = ("trial",) if stacked else ()

        def is_bank(node):
            return isinstance(node, memory.Bank)

        def of(node, axis):
            mine = lead if axis == 0 else ()
            if not is_bank(node):
                return self._sharding(*mine)
            rows = self._sharding(*mine, "data")
            return jax.tree.map(lambda _: rows, node)

        def of_part(axis, part):
            return jax.tree.map(lambda node: of(node, axis), part, is_leaf=is_bank)

        axes: Any = TRIAL_AXES.train
        train = [of_part(a, part) for a, part in zip(axes, loop.train, strict=True)]
        monitor = jax.tree.map(lambda _: self._sharding(), loop.monitor)
        return LoopState(type(loop.train)(*train), monitor)

    def _sharding(self, *axes: str | None) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec(*axes))


ONE_DEVICE = Placement(None, 1, None)
"""No mesh: JAX's default device."""


def _uncommitted(leaf: Any) -> jax.Array:
    """Move an array to the default device without committing it.

    A committed array, such as a checkpoint's, commits all results computed from it. The
    state would be committed after its first step, and the step would be compiled again.
    """
    if not isinstance(leaf, jax.Array):
        return jax.device_put(leaf)
    if not leaf.committed:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _uncommitted(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf))


def _both_axes(mesh: Mesh) -> Mesh:
    """Return a mesh of the same devices with both axes, one possibly of size 1."""
    if not mesh.axis_names or not set(mesh.axis_names) <= set(_AXES):
        raise InvalidInputError(
            f"mesh must have axes data and trial, or one of them, "
            f"got {tuple(mesh.axis_names)}",
            argument="mesh",
        )
    names = [name for name in _AXES if name in mesh.axis_names]
    devices = mesh.devices.transpose([mesh.axis_names.index(name) for name in names])
    return Mesh(devices.reshape([mesh.shape.get(name, 1) for name in _AXES]), _AXES)
