"""How operations that move elements are written in ONNX."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxkd.interchange._to_onnx.graph import (
    BATCH,
    Graph,
    Tensor,
    Value,
    plain_tensor,
    static_shape,
    unsupported,
)
from jaxkd.interchange._to_onnx.operations import Rule, aligned, single, without_axes


def _squeeze(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    return [_squeezed(graph, name, order, equation.params["dimensions"])]


def _squeezed(
    graph: Graph, name: str, order: Sequence[int], axes: Sequence[Any]
) -> Tensor:
    places = sorted(tuple(order).index(axis) for axis in axes)
    squeezed = graph.add("Squeeze", [name, graph.integers(places)])
    return Tensor(squeezed, without_axes(order, axes))


def _transpose(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    permutation = list(equation.params["permutation"])
    return [Tensor(name, tuple(permutation.index(axis) for axis in order))]


def _reshape(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    before = equation.invars[0].aval.shape
    return [reshaped(graph, operands[0], equation.outvars[0].aval.shape, before)]


def reshaped(
    graph: Graph, value: Value, shape: Sequence[Any], before: Sequence[Any] = ()
) -> Tensor:
    """Return a value in another shape, of which one axis may depend on the batch.

    Args:
        graph: The graph.
        value: The value.
        shape: The new shape.
        before: The shape of the value. If it is given, axes that stay, are split, or
            are joined keep their place in the graph.
    """
    sizes = static_shape(shape)
    if sizes.count(None) > 1:
        raise unsupported(f"a reshape to {tuple(shape)}")
    groups = axis_groups(static_shape(before), sizes) if before else None
    order = tuple(range(len(sizes)))
    if groups is None or not isinstance(value, Tensor) or value.order == order:
        name = graph.plain(value)
    else:
        # Axes that are joined must follow each other.
        starts = {old[0]: (old, new) for old, new in groups}
        moved = [starts[axis] for axis in value.order if axis in starts]
        name = graph.stored(value, [axis for old, _ in moved for axis in old])
        order = tuple(axis for _, new in moved for axis in new)
    target = [-1 if (size := sizes[axis]) is None else size for axis in order]
    name = graph.add("Reshape", [name, graph.integers(target)])
    return Tensor(name, order)


def axis_groups(
    before: Sequence[int | None], after: Sequence[int | None]
) -> list[tuple[list[int], list[int]]] | None:
    """Return which axes of a reshape become which, in groups that are independent.

    Returns:
        For each group, its axes before and after, one on at least one side; None if
        there are others, or an axis without a partner.
    """
    groups, i, j = [], 0, 0
    while i < len(before) and j < len(after):
        old, new = [i], [j]
        i, j = i + 1, j + 1
        if before[old[0]] != after[new[0]]:
            left, right = before[old[0]], after[new[0]]
            while left != right:
                if left is None or right is None:
                    return None
                if left < right and i < len(before):
                    left, i = left * (before[i] or 0), i + 1
                elif left > right and j < len(after):
                    right, j = right * (after[j] or 0), j + 1
                else:
                    return None
            old, new = list(range(old[0], i)), list(range(new[0], j))
        groups.append((old, new))
    if i < len(before) or j < len(after) or any(min(map(len, g)) > 1 for g in groups):
        return None
    return groups


def _broadcast(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    before = equation.invars[0].aval.shape
    after = equation.outvars[0].aval.shape
    places = equation.params["broadcast_dimensions"]
    unit: list[Any] = [1] * len(after)
    for size, place in zip(before, places, strict=True):
        unit[place] = size
    value = operands[0]
    if isinstance(value, np.ndarray):
        value = value.reshape([int(n) for n in unit])
    elif tuple(unit) != tuple(before):
        value = reshaped(graph, value, unit, before)
    grown = [x for x, y in zip(after, unit, strict=True) if x is not y and x != y]
    if not grown:
        return [value]
    return [expanded(graph, value, unit, after)]


def expanded(
    graph: Graph, value: Value, before: Sequence[Any], after: Sequence[Any]
) -> Tensor:
    """Repeat axes of size 1; the new size may be the number of images."""
    parts = []
    for old, new in zip(before, after, strict=True):
        if old is new or old == new:
            parts.append(graph.integers([1]))
        elif isinstance(new, (int, np.integer)):
            parts.append(graph.integers([int(new)]))
        elif str(new) == BATCH:
            parts.append(graph.batch())
        else:
            raise unsupported(f"an array of shape {tuple(after)}")
    shape = graph.add("Concat", parts, axis=0)
    name = graph.add("Expand", [graph.plain(value), shape])
    return plain_tensor(name, len(after))


def _concatenate(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    names, order = aligned(graph, operands)
    axis = order.index(equation.params["dimension"])
    return [Tensor(graph.add("Concat", names, axis=axis), order)]


def _split(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    sizes, axis = equation.params["sizes"], order.index(equation.params["axis"])
    names = graph.add_many(
        "Split", [name, graph.integers(sizes)], len(sizes), axis=axis
    )
    return [Tensor(each, order) for each in names]


def _unstack(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    axis, count = equation.params["axis"], len(equation.outvars)
    names = graph.add_many(
        "Split",
        [name, graph.integers([1] * count)],
        count,
        axis=order.index(axis),
    )
    return [_squeezed(graph, each, order, [axis]) for each in names]


def _slice(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    params, shape = equation.params, equation.invars[0].aval.shape
    strides = params["strides"] or [1] * len(shape)
    bounds = {
        axis: (start, stop, step)
        for axis, (start, stop, step) in enumerate(
            zip(params["start_indices"], params["limit_indices"], strides, strict=True)
        )
        if not (stop is shape[axis] or stop == shape[axis]) or start or step != 1
    }
    return [_sliced(graph, name, order, bounds)]


def _sliced(
    graph: Graph,
    name: str,
    order: tuple[int, ...],
    bounds: dict[int, tuple[Any, Any, Any]],
) -> Tensor:
    """Cut a part out of a tensor, of which bounds of some axes are given."""
    if not bounds:
        return Tensor(name, order)
    for numbers in bounds.values():
        if not all(isinstance(n, (int, np.integer)) for n in numbers):
            raise unsupported("a slice that depends on the number of images")
    starts, stops, steps = (
        list(map(int, x)) for x in zip(*bounds.values(), strict=True)
    )
    places = [order.index(axis) for axis in bounds]
    inputs = [graph.integers(x) for x in (starts, stops, places, steps)]
    return Tensor(graph.add("Slice", [name, *inputs]), order)


def _gather(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    """Write the gather that indexing with constants becomes.

    Axes of which whole ranges are read are cut first. Then the others are joined to
    one, from which one vector of numbers reads.
    """
    value, indices = operands
    numbers, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    sizes, picked = equation.params["slice_sizes"], numbers.collapsed_slice_dims
    if (
        not isinstance(value, Tensor)
        or not isinstance(indices, np.ndarray)
        or numbers.operand_batching_dims
    ):
        raise unsupported("a gather by computed indices")
    starts = dict(
        zip(numbers.start_index_map, np.moveaxis(indices, -1, 0), strict=True)
    )
    bounds = {}
    for axis, start in starts.items():
        size = shape[axis]
        if not isinstance(size, (int, np.integer)):
            raise unsupported("indexing of the images of a batch")
        if start.min() < 0 or start.max() + sizes[axis] > size:
            raise unsupported("an index out of range")
        if axis not in picked and sizes[axis] != size:
            if start.min() != start.max():
                raise unsupported("a gather of several ranges")
            bounds[axis] = (int(start.min()), int(start.min()) + sizes[axis], 1)
    part = _sliced(graph, value.name, value.order, bounds)
    if not picked:
        return [part]
    rest = [axis for axis in range(len(shape)) if axis not in picked]
    known = static_shape([sizes[axis] for axis in rest])
    joined = [math.prod(shape[axis] for axis in picked)]
    target = joined + [-1 if size is None else size for size in known]
    table = graph.add(
        "Reshape", [graph.stored(part, [*picked, *rest]), graph.integers(target)]
    )
    rows = np.ravel_multi_index(
        [
            np.asarray(starts.get(axis, np.zeros(indices.shape[:-1])), np.int64)
            for axis in picked
        ],
        [shape[axis] for axis in picked],
    )
    name = graph.add("Gather", [table, graph.integers(rows)], axis=0)
    offsets = tuple(numbers.offset_dims)
    places = range(indices.ndim - 1 + len(offsets))
    return [Tensor(name, tuple(i for i in places if i not in offsets) + offsets)]


def _pad(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    value, filling = operands
    widths = equation.params["padding_config"]
    if any(min(low, high) < 0 or inner for low, high, inner in widths):
        raise unsupported("a padding that is negative or between elements")
    name, order = single(value, graph)
    stored = [widths[axis] for axis in order]
    pads = graph.integers([w[0] for w in stored] + [w[1] for w in stored])
    return [Tensor(graph.add("Pad", [name, pads, graph.plain(filling)]), order)]


SHAPES: dict[str, Rule] = {
    **{"squeeze": _squeeze, "transpose": _transpose, "reshape": _reshape},
    **{"broadcast_in_dim": _broadcast, "concatenate": _concatenate, "split": _split},
    **{"unstack": _unstack, "slice": _slice, "gather": _gather, "pad": _pad},
}
"""Rules by the name of JAX's operation."""
