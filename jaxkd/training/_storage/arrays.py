"""A state as named arrays, the form in which a checkpoint stores it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxkd import memory
from jaxkd._errors import InvalidInputError
from jaxkd.training._state import PyTree

# Metrics of the monitor that checkpoints of older versions do not hold.
_ADDED_METRICS = {"learning_rate"}


def names(tree: PyTree) -> list[str]:
    """Return a readable name for each leaf, in order."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for path, _ in paths
    ]


def bank_names(tree: PyTree) -> set[str]:
    """Return the names of banks' tables, whose padding depends on the devices."""

    def is_bank(node):
        return isinstance(node, memory.Bank)

    def mark(node):
        return jax.tree.map(lambda _: is_bank(node), node)

    marks = jax.tree.leaves(jax.tree.map(mark, tree, is_leaf=is_bank))
    return {name for name, bank in zip(names(tree), marks, strict=True) if bank}


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is a typed key."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def flatten(tree: PyTree) -> dict[str, jax.Array]:
    """Return the arrays by name, with typed keys as the integers they hold."""
    return {
        name: jax.random.key_data(leaf) if is_key(leaf) else leaf
        for name, leaf in zip(names(tree), jax.tree.leaves(tree), strict=True)
    }


def abstract(tree: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """Return abstract arrays by name, with the shardings of those given.

    Arrays without a sharding are put on this process's default device: the device they
    were saved from may not exist now.
    """
    here = SingleDeviceSharding(jax.local_devices()[0])
    places = [getattr(leaf, "sharding", None) or here for leaf in jax.tree.leaves(tree)]
    arrays = jax.eval_shape(flatten, tree)
    return {
        name: jax.ShapeDtypeStruct(arrays[name].shape, arrays[name].dtype, sharding=at)
        for name, at in zip(names(tree), places, strict=True)
    }


def unflatten(arrays: dict[str, jax.Array], like: PyTree) -> PyTree:
    """Undo :func:`flatten`."""
    leaves, structure = jax.tree.flatten(like)
    restored = [
        as_key(arrays[name], leaf) if is_key(leaf) else arrays[name]
        for name, leaf in zip(names(like), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)


def as_key(data: jax.Array, like: Any) -> jax.Array:
    """Wrap key data as a key of the same kind as another, which may be abstract."""
    kinds = []
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), like)
    return jax.random.wrap_key_data(data, impl=kinds[0])


def shapes(arrays: dict[str, Any]) -> dict[str, list[int]]:
    """Return the shapes by name, as JSON stores them."""
    return {name: list(array.shape) for name, array in arrays.items()}


def take_unrecorded(
    wanted: dict[str, dict[str, jax.ShapeDtypeStruct]], stored: dict[str, Any]
) -> dict[str, dict[str, jax.Array]]:
    """Take the metrics out that an older version did not record, filled with NaN.

    Args:
        wanted: Abstract arrays by name, of each item of a checkpoint. Those that are
            not stored are removed if they are such a metric.
        stored: The names of the stored arrays of each item.

    Returns:
        The arrays that were removed.
    """
    filled = {}
    for item, arrays in wanted.items():
        missing = arrays.keys() - stored.get(item, {}).keys()
        names = [n for n in missing if n.rpartition(".")[2] in _ADDED_METRICS]
        found = stored.get(item, {})
        filled[item] = {n: _nan(arrays.pop(n)) for n in names if found}
    return filled


def _nan(like: jax.ShapeDtypeStruct) -> jax.Array:
    nan = np.full(like.shape, np.nan, like.dtype)
    if like.sharding is None:
        return jax.numpy.asarray(nan)
    return jax.make_array_from_callback(
        like.shape, like.sharding, lambda index: nan[index]
    )


def of_all_trials(abstract: PyTree, trials: list[int], trial: int) -> PyTree:
    """Return the abstract arrays of all trials, to read one trial from them."""
    count = trials[0] if trials else 1
    if trial >= count:
        raise InvalidInputError(
            f"has no trial {trial}: its run has {count}, numbered from 0",
            argument="trial",
        )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (*trials, *leaf.shape), leaf.dtype, sharding=leaf.sharding
        ),
        abstract,
    )


def check_shapes(
    item: str, stored: dict[str, Any], wanted: dict[str, Any], banks: set[str]
) -> None:
    """Refuse a checkpoint whose arrays have other shapes than the state to restore.

    Banks may differ in their padding with zeros, but not in the labels of their rows.

    Raises:
        ValueError: Naming the first array that differs.
    """
    for name in sorted({*wanted, *stored}):
        there, here = (tree.get(name, "no such array") for tree in (stored, wanted))
        both = name in stored and name in wanted
        if both and name in banks and len(there) == len(here):
            there = [*there[:-2], here[-2], there[-1]]
        if there != here:
            raise InvalidInputError(
                f"is of another experiment: {item} {name} is {there} there, {here} here"
            )
