"""Distribute the rows of a bank over several devices, in equal consecutive parts."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int

if TYPE_CHECKING:
    from jaxkd.memory._negatives import Negatives

DATA_AXIS = "data"
"""Mesh axis over which the rows of a bank are distributed."""


def shards() -> int:
    """Return the number of devices that share the rows: the size of the axis ``data``.

    The mesh is JAX's current one, set by ``jax.set_mesh`` or
    ``jax.sharding.use_abstract_mesh`` while a function is traced. Inside a
    ``shard_map`` over this axis, the number is 1, since each device sees its own rows
    only.
    """
    mesh: Any = jax.sharding.get_abstract_mesh()
    return 1 if DATA_AXIS in mesh.manual_axes else mesh.shape.get(DATA_AXIS, 1)


def padded(rows: int) -> int:
    """Round the number of rows up to a multiple of the number of devices."""
    return -(-rows // shards()) * shards()


def on_every_shard(function: Any, table: Array, *given: Any) -> Any:
    """Call ``function(own rows, *given)`` on each device; all must return the same.

    With automatic partitioning instead, XLA would gather the whole table on each device
    to loop over it.
    """
    everywhere = PartitionSpec()
    return jax.shard_map(
        function,
        in_specs=(PartitionSpec(DATA_AXIS), *(everywhere for _ in given)),
        out_specs=everywhere,
        # The final collectives make all results equal, but JAX cannot infer this from
        # the loop.
        check_vma=False,
    )(table, *given)


def local_negatives(
    negatives: "Negatives", rows: int
) -> tuple["Negatives", Int[Array, ""]]:
    """Select the candidates among this device's rows; use in :func:`on_every_shard`.

    Args:
        negatives: Negatives among the rows of the whole bank.
        rows: Number of rows per device.

    Returns:
        The candidates and their number. The shapes are the same on all devices;
        candidates after this number must be masked.
    """
    first = jax.lax.axis_index(DATA_AXIS) * rows
    candidates = negatives.candidate_labels.shape[0]
    if negatives.rows is not None:
        is_local = negatives.rows // rows == jax.lax.axis_index(DATA_AXIS)
        negatives = negatives.reordered(jnp.argsort(~is_local, stable=True))
        local = jnp.clip(jnp.asarray(negatives.rows) - first, 0, rows - 1)
        return negatives._replace(rows=local), jnp.sum(is_local, dtype=jnp.int32)
    order = jnp.minimum(first + jnp.arange(rows, dtype=jnp.int32), candidates - 1)
    return negatives.reordered(order), jnp.clip(candidates - first, 0, rows)
