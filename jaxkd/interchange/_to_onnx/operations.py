"""How operations of single elements, and reductions, are written in ONNX."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxkd.interchange._to_onnx.graph import (
    Graph,
    Tensor,
    Value,
    channels_first,
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


def single(value: Value, graph: Graph) -> tuple[str, tuple[int, ...]]:
    """Return the name and the order of the only operand."""
    (name,), order = aligned(graph, [value])
    return name, order


def _max(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    for value, other in (operands, operands[::-1]):
        if isinstance(other, np.ndarray) and other.size == 1 and not other.any():
            name, order = single(value, graph)
            return [Tensor(graph.add("Relu", [name]), order)]
    names, order = aligned(graph, operands)
    return [Tensor(graph.add("Max", names), order)]


def _not_equal(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    names, order = aligned(graph, operands)
    return [Tensor(graph.add("Not", [graph.add("Equal", names)]), order)]


def _square(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    return [Tensor(graph.add("Mul", [name, name]), order)]


def _rsqrt(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    return [Tensor(graph.add("Reciprocal", [graph.add("Sqrt", [name])]), order)]


def _erfc(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    one = graph.constant(np.ones((), equation.outvars[0].aval.dtype))
    return [Tensor(graph.add("Sub", [one, graph.add("Erf", [name])]), order)]


def _log1p(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
    one = graph.constant(np.ones((), equation.outvars[0].aval.dtype))
    return [Tensor(graph.add("Log", [graph.add("Add", [one, name])]), order)]


def _integer_pow(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, order = single(operands[0], graph)
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
    name, order = single(operands[0], graph)
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
    name, order = single(operands[0], graph)
    axes = equation.params["axes"]
    places = sorted(order.index(axis) for axis in axes)
    reduced = graph.add(
        REDUCTIONS[equation.primitive.name],
        [name, graph.integers(places)],
        keepdims=0,
    )
    return [Tensor(reduced, without_axes(order, axes))]


def without_axes(order: Sequence[int], axes: Sequence[Any]) -> tuple[int, ...]:
    """Return the order of the axes that remain after some are removed."""
    kept = [axis for axis in order if axis not in axes]
    return tuple(sorted(kept).index(axis) for axis in kept)


def _rank(value: Value) -> int:
    return len(value.order) if isinstance(value, Tensor) else value.ndim


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **{"max": _max, "ne": _not_equal, "square": _square, "rsqrt": _rsqrt},
    **{"erfc": _erfc, "log1p": _log1p, "integer_pow": _integer_pow, "clamp": _clamp},
    **{"select_n": _select, "convert_element_type": _convert},
}
"""Rules by the name of JAX's operation."""
