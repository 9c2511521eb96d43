"""How the operations of a JAX program are written in ONNX."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxkd.interchange._to_onnx.graph import (
    BATCH,
    Graph,
    Tensor,
    Value,
    channels_first,
    plain_tensor,
    static_shape,
    unsupported,
)

Rule = Callable[[Graph, Any, list[Value]], list[Value]]
"""``(graph, equation, operands) -> results``; at least one operand is a tensor."""

ELEMENTWISE = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow"},
    **{"add_any": "Add", "min": "Min", "eq": "Equal", "lt": "Less", "gt": "Greater"},
    **{"le": "LessOrEqual", "ge": "GreaterOrEqual", "and": "And", "or": "Or"},
    **{"neg": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "tanh": "Tanh"},
    **{"logistic": "Sigmoid", "erf": "Erf", "abs": "Abs", "sign": "Sign"},
    **{"sin": "Sin", "cos": "Cos", "floor": "Floor", "ceil": "Ceil", "not": "Not"},
}
"""Operations with a counterpart in ONNX."""

REDUCTIONS = {
    **{"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax"},
    **{"reduce_min": "ReduceMin", "reduce_prod": "ReduceProd"},
}

IDENTITIES = frozenset({"stop_gradient", "copy", "copy_p", "optimization_barrier"})


def aligned(graph: Graph, values: Sequence[Value]) -> tuple[list[str], tuple[int, ...]]:
    """Return the names of values that are stored in one order of their axes.

    Operands of JAX have the same number of axes, or none. Channels stay first where a
    convolution has put them; otherwise, values are stored as in JAX if one of them is.
    """
    orders = [value.order for value in values if isinstance(value, Tensor)]
    rank = max(map(len, orders))
    orders = [order for order in orders if len(order) == rank]
    wanted = [tuple(range(rank)), orders[0]]
    if rank > 3:
        wanted.insert(0, channels_first(rank))
    order = next(order for order in wanted if order in orders)
    names = [
        graph.stored(value, order if _rank(value) == rank else range(_rank(value)))
        for value in values
    ]
    return names, order


def elementwise(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    """Write an operation of single elements under its name in ONNX."""
    names, order = aligned(graph, operands)
    return [Tensor(graph.add(ELEMENTWISE[equation.primitive.name], names), order)]


def _one(values: Value, graph: Graph) -> tuple[str, tuple[int, ...]]:
    (name,), order = aligned(graph, [values])
    return name, order


def _max(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    for value, other in (operands, operands[::-1]):
        if isinstance(other, np.ndarray) and not other.any():
            name, order = _one(value, graph)
            return [Tensor(graph.add("Relu", [name]), order)]
    names, order = aligned(graph, operands)
    return [Tensor(graph.add("Max", names), order)]


def _not_equal(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    names, order = aligned(graph, operands)
    return [Tensor(graph.add("Not", [graph.add("Equal", names)]), order)]


def _square(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    return [Tensor(graph.add("Mul", [name, name]), order)]


def _rsqrt(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    return [Tensor(graph.add("Reciprocal", [graph.add("Sqrt", [name])]), order)]


def _erfc(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    one = graph.constant(np.ones((), equation.outvars[0].aval.dtype))
    return [Tensor(graph.add("Sub", [one, graph.add("Erf", [name])]), order)]


def _log1p(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    one = graph.constant(np.ones((), equation.outvars[0].aval.dtype))
    return [Tensor(graph.add("Log", [graph.add("Add", [one, name])]), order)]


def _integer_pow(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    power = np.asarray(equation.params["y"], equation.outvars[0].aval.dtype)
    return [Tensor(graph.add("Pow", [name, graph.constant(power)]), order)]


def _clamp(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    low, value, high = operands
    (name, lower), order = aligned(graph, [value, low])
    larger = Tensor(graph.add("Max", [name, lower]), order)
    names, order = aligned(graph, [larger, high])
    return [Tensor(graph.add("Min", names), order)]


def _select(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    if len(operands) != 3 or equation.invars[0].aval.dtype != np.bool_:
        raise unsupported("a choice between more than two values")
    condition, if_false, if_true = operands
    names, order = aligned(graph, [condition, if_true, if_false])
    return [Tensor(graph.add("Where", names), order)]


def _convert(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
    if before == after:
        return [Tensor(name, order)]
    return [Tensor(graph.add("Cast", [name], to=onnx_type(after)), order)]


def onnx_type(dtype: Any) -> int:
    """Return the number that ONNX has for a dtype.

    Raises:
        InvalidInputError: If it is a 16-bit floating-point dtype: few runtimes compute
            in them.
    """
    from onnx import helper

    if np.dtype(dtype).name in ("bfloat16", "float16"):
        raise unsupported(f"{np.dtype(dtype).name}")
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _reduce(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    axes = equation.params["axes"]
    places = sorted(order.index(axis) for axis in axes)
    reduced = graph.add(
        REDUCTIONS[equation.primitive.name],
        [name, graph.integers(places)],
        keepdims=0,
    )
    return [Tensor(reduced, _without(order, axes))]


def _without(order: Sequence[int], axes: Sequence[Any]) -> tuple[int, ...]:
    """Return the order of the axes that remain after some are removed."""
    kept = [axis for axis in order if axis not in axes]
    return tuple(sorted(kept).index(axis) for axis in kept)


def _squeeze(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    return [_squeezed(graph, name, order, equation.params["dimensions"])]


def _squeezed(
    graph: Graph, name: str, order: Sequence[int], axes: Sequence[Any]
) -> Tensor:
    places = sorted(tuple(order).index(axis) for axis in axes)
    squeezed = graph.add("Squeeze", [name, graph.integers(places)])
    return Tensor(squeezed, _without(order, axes))


def _transpose(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
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
    name, order = _one(operands[0], graph)
    sizes, axis = equation.params["sizes"], order.index(equation.params["axis"])
    names = graph.add_many(
        "Split", [name, graph.integers(sizes)], len(sizes), axis=axis
    )
    return [Tensor(each, order) for each in names]


def _unstack(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
    axis, count = equation.params["axis"], len(equation.outvars)
    names = graph.add_many(
        "Split",
        [name, graph.integers([1] * count)],
        count,
        axis=order.index(axis),
    )
    return [_squeezed(graph, each, order, [axis]) for each in names]


def _slice(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = _one(operands[0], graph)
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
    name, order = _one(value, graph)
    stored = [widths[axis] for axis in order]
    pads = graph.integers([w[0] for w in stored] + [w[1] for w in stored])
    return [Tensor(graph.add("Pad", [name, pads, graph.plain(filling)]), order)]


def _rank(value: Value) -> int:
    return len(value.order) if isinstance(value, Tensor) else value.ndim


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **{"max": _max, "ne": _not_equal, "square": _square, "rsqrt": _rsqrt},
    **{"erfc": _erfc, "log1p": _log1p, "integer_pow": _integer_pow, "clamp": _clamp},
    **{"select_n": _select, "convert_element_type": _convert, "squeeze": _squeeze},
    **{"transpose": _transpose, "reshape": _reshape, "broadcast_in_dim": _broadcast},
    **{"concatenate": _concatenate, "split": _split, "unstack": _unstack},
    **{"slice": _slice, "gather": _gather, "pad": _pad},
}
"""Rules by the name of JAX's operation; those of layers are in ``layers``."""
