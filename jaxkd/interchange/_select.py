"""Find the state dict in a checkpoint, and undo what wrappers did to its names."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from jaxkd._errors import InvalidInputError

Value = TypeVar("Value")

# What torch.compile, FSDP and activation checkpointing insert anywhere in a name.
_INSERTED = frozenset(
    {
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_fpw_module",
        "_checkpoint_wrapped_module",
    }
)
# DataParallel and AveragedModel hold the network in this attribute; the latter counts.
_PARALLEL, _COUNT = "module", "n_averaged"
# Buffers in which profilers count operations.
_PROFILED = {"total_ops", "total_params"}
# Entries whose tensors are not weights.
_NOT_WEIGHTS = re.compile(
    "optim|sched|scaler|callback|loop|rng|hyper|metric|momentum|grad"
)
_DEPTH = 4  # of entries in entries
_SHOWN = 6  # choices in a message


def select_state_dict(
    content: Mapping[Any, Any], key: str | None, tensor: type
) -> tuple[Mapping[Any, Any], str | None]:
    """Find the state dict in the content of a checkpoint.

    A state dict is a mapping from strings to tensors. Entries of optimizers, schedules
    and the like are ignored.

    Args:
        content: The content of the file.
        key: The entry to take, as names joined by dots; or, after it, the beginning of
            the names of tensors. None if the file has one state dict.
        tensor: The class of tensors.

    Returns:
        The state dict, and the part of ``key`` that is the beginning of names in it.

    Raises:
        InvalidInputError: If there are several and ``key`` is None, or ``key`` names
            none of them.
    """
    found = dict(_state_dicts(content, tensor))
    if key is None:
        if len(found) > 1:
            # Entries of scalars and vectors only are hardly those of a network.
            with_matrices = {
                name: state
                for name, state in found.items()
                if any(value.ndim > 1 for value in state.values())
            }
            found = with_matrices or found
        if len(found) > 1:
            raise InvalidInputError(
                f"the file contains {len(found)} state dicts: {_choices(found)}. "
                "Choose one of them (--key on the command line).",
                argument="key",
            )
        return next(iter(found.values()), _likely(content)), None
    inside = [name for name in found if key == name or key.startswith(f"{name}.")]
    if inside:
        name = max(inside, key=len)
        return found[name], key.removeprefix(name).removeprefix(".") or None
    below = [name for name in found if name.startswith(f"{key}.")]
    if len(below) == 1:
        return found[below[0]], None
    if "" in found:
        return found[""], key
    if len(found) == 1 and _below(only := next(iter(found.values())), key):
        return only, key
    raise InvalidInputError(
        f"key {key!r} is not a state dict of the file. It contains "
        f"{_choices(found) or 'none'}.",
        argument="key",
    )


def _state_dicts(
    content: Any, tensor: type, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List the state dicts in the content, by their entries joined by dots."""
    if not isinstance(content, Mapping) or not content or len(path) > _DEPTH:
        return
    if all(isinstance(name, str) for name in content) and all(
        isinstance(value, tensor) for value in content.values()
    ):
        yield ".".join(path), content
        return
    inner = [
        found
        for name, value in content.items()
        if isinstance(name, str) and not _NOT_WEIGHTS.search(name.lower())
        for found in _state_dicts(value, tensor, (*path, name))
    ]
    beside = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and "." in name and isinstance(value, tensor)
    }
    if inner and beside:
        yield ".".join(path), beside
    yield from inner


def _likely(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the entry most likely meant as the state dict, for its error message."""
    for entry in ("model", "state_dict", "model_state_dict", "net", "params"):
        if isinstance(content.get(entry), Mapping):
            return content[entry]
    return content


def below_prefix(state: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the tensors below a prefix of names, without the prefix.

    What wrappers add to the names may be left out.

    Raises:
        InvalidInputError: If there are none.
    """
    found = _below(state, prefix)
    if not found:
        raise InvalidInputError(
            f"key {prefix!r} is not the beginning of any name; names begin with "
            f"{describe_prefixes(unwrapped(state))}.",
            argument="key",
        )
    return found


def _below(state: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    first = prefix.removesuffix(".")
    return _inside(state, first) or _inside(unwrapped(state), first)


def describe_prefixes(names: Collection[str]) -> str:
    """List the first components of names with their counts, for messages."""
    counts: dict[str, int] = {}
    for name in names:
        first = name.partition(".")[0]
        counts[first] = counts.get(first, 0) + 1
    shown = [f"{name} ({count})" for name, count in counts.items()]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")


def _choices(found: Mapping[str, Mapping[str, Any]]) -> str:
    shown = [
        f"{name or 'the top level'} ({len(x)} tensors)" for name, x in found.items()
    ]
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")


def unwrapped(state: Mapping[str, Value]) -> dict[str, Value]:
    """Return the state dict with the names that the network has without wrappers.

    The counts of operations that profilers store beside the weights are left out.

    Raises:
        InvalidInputError: If two names become the same.
    """
    names = {
        name: ".".join(part for part in name.split(".") if part not in _INSERTED)
        for name in state
        if name.rpartition(".")[2] not in _PROFILED
    }
    result = with_names(state, names)
    while _shared(result) == _PARALLEL:
        result = _inside(result, _PARALLEL)
    return result


def without_shared_prefix(state: Mapping[str, Value]) -> tuple[dict[str, Value], str]:
    """Remove the first components that all names have in common.

    Returns:
        The state dict, and what was removed, such as ``"model.net."``.
    """
    result, removed = dict(state), ""
    while (first := _shared(result)) is not None:
        result = _inside(result, first)
        removed += f"{first}."
    return result, removed


def _shared(names: Collection[str]) -> str | None:
    """Return the first component that all names share; None if a name has no other."""
    firsts = {name.partition(".")[:2] for name in names}
    if firsts == {(_PARALLEL, "."), (_COUNT, "")}:
        return _PARALLEL
    first, dot = firsts.pop() if len(firsts) == 1 else ("", "")
    return first if dot else None


def _inside(state: Mapping[str, Value], first: str) -> dict[str, Value]:
    """Return the tensors below a first component, without it."""
    prefix = f"{first}."
    return {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}


def with_names(
    state: Mapping[str, Value], names: Mapping[str, str], argument: str = "path"
) -> dict[str, Value]:
    """Return the tensors that have a new name, under this name."""
    result: dict[str, Value] = {}
    for name, new in names.items():
        if new in result:
            raise InvalidInputError(
                f"rename gives two tensors the name {new!r}; the second is {name!r}.",
                argument=argument,
            )
        result[new] = state[name]
    return result
