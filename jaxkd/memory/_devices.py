"""The bank over several devices: each keeps an equal stretch of its rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int

from jaxkd.memory._negatives import Negatives

DATA_AXIS = "data"
"""The mesh axis over which the rows of a bank lie."""


def shards() -> int:
    """Over how many devices the rows lie: the axis ``data`` of the mesh in use.

    That is JAX's own: what ``jax.set_mesh`` or ``jax.sharding.use_abstract_mesh`` says
    while a function is traced. Inside a ``shard_map`` over that axis, a device's rows
    are all that there are.
    """
    mesh: Any = jax.sharding.get_abstract_mesh()
    return 1 if DATA_AXIS in mesh.manual_axes else mesh.shape.get(DATA_AXIS, 1)


def padded(rows: int) -> int:
    """The least number of rows that divides evenly."""
    return -(-rows // shards()) * shards()


def on_every_shard(function: Any, table: Array, *given: Any) -> Any:
    """``function(own rows, *given)`` on every device, which all must answer alike.

    By automatic partitioning instead, XLA would gather the whole table on each device
    to loop over it.
    """
    everywhere = PartitionSpec()
    return jax.shard_map(
        function,
        in_specs=(PartitionSpec(DATA_AXIS), *(everywhere for _ in given)),
        out_specs=everywhere,
        # The collectives at its end make the answer one; a loop does not show that.
        check_vma=False,
    )(table, *given)


def own(negatives: Negatives, rows: int) -> tuple[Negatives, Int[Array, ""]]:
    """The candidates among a device's rows, and how many there are.

    Inside :func:`on_every_shard`. The shape is the same on all devices; what comes
    after the count is to be masked.

    Args:
        negatives: Those of the whole bank.
        rows: How many rows each device has.
    """
    first = jax.lax.axis_index(DATA_AXIS) * rows
    candidates = negatives.candidate_labels.shape[0]
    if negatives.rows is not None:
        mine = negatives.rows // rows == jax.lax.axis_index(DATA_AXIS)
        negatives = negatives.reordered(jnp.argsort(~mine, stable=True))
        local = jnp.clip(jnp.asarray(negatives.rows) - first, 0, rows - 1)
        return negatives._replace(rows=local), jnp.sum(mine, dtype=jnp.int32)
    order = jnp.minimum(first + jnp.arange(rows, dtype=jnp.int32), candidates - 1)
    return negatives.reordered(order), jnp.clip(candidates - first, 0, rows)
