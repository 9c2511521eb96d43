"""How convolutions, pooling and matrix products are written in ONNX."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxkd.interchange._to_onnx.graph import (
    Graph,
    Tensor,
    Value,
    channels_first,
    plain_tensor,
    static_shape,
    unsupported,
)
from jaxkd.interchange._to_onnx.operations import Rule
from jaxkd.interchange._to_onnx.shapes import reshaped


def _convolution(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    params = equation.params
    numbers = params["dimension_numbers"]
    if any(n != 1 for n in params["lhs_dilation"]):
        raise unsupported("a transposed convolution")
    if params["batch_group_count"] != 1:
        raise unsupported("a convolution with groups of images")
    images, kernel = operands
    inputs = [
        graph.stored(images, numbers.lhs_spec),  # [batch, channels, *positions]
        graph.stored(kernel, numbers.rhs_spec),  # [out, in, *positions]
    ]
    low, high = zip(*params["padding"], strict=True)
    output = graph.add(
        "Conv",
        inputs,
        strides=list(params["window_strides"]),
        pads=[*low, *high],
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    return [Tensor(output, tuple(numbers.out_spec))]


def _pooling(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    params = equation.params
    windows = params["window_dimensions"]
    if len(windows) < 3 or any(n != 1 for n in params["base_dilation"]):
        raise unsupported("a pooling between elements")
    channels = len(windows) - 1
    if windows[0] != 1 or windows[channels] != 1:
        raise unsupported("a pooling over images or channels")
    order = channels_first(len(windows))
    settings = {
        "kernel_shape": [windows[axis] for axis in order[2:]],
        "strides": [params["window_strides"][axis] for axis in order[2:]],
        "pads": [
            params["padding"][axis][side] for side in (0, 1) for axis in order[2:]
        ],
    }
    name = graph.stored(operands[0], order)
    dilations = [params["window_dilation"][axis] for axis in order[2:]]
    if equation.primitive.name == "reduce_window_max":
        pooled = graph.add("MaxPool", [name], dilations=dilations, **settings)
        return [Tensor(pooled, order)]
    if any(n != 1 for n in dilations):
        raise unsupported("a dilated sum over windows")
    mean = graph.add("AveragePool", [name], count_include_pad=1, **settings)
    area = np.asarray(np.prod(windows), equation.outvars[0].aval.dtype)
    return [Tensor(graph.add("Mul", [mean, graph.constant(area)]), order)]


def _product(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    """Write a product of matrices; several axes of rows or columns become one."""
    sums, batches = equation.params["dimension_numbers"]
    sides = []
    for variable, own_sums, own_batches in zip(
        equation.invars, sums, batches, strict=True
    ):
        rank = len(variable.aval.shape)
        free = [i for i in range(rank) if i not in (*own_sums, *own_batches)]
        sides.append((tuple(own_batches), free, tuple(own_sums)))
    (batch, rows, left_sum), (right_batch, columns, right_sum) = sides
    orders = [(*batch, *rows, *left_sum), (*right_batch, *right_sum, *columns)]
    names = [graph.stored(x, order) for x, order in zip(operands, orders, strict=True)]
    shape = equation.outvars[0].aval.shape
    single_rows = len(rows) == 1 or not batch
    if single_rows and len(left_sum) == len(columns) == 1:
        return [plain_tensor(graph.add("MatMul", names), len(shape))]
    left, right = (variable.aval.shape for variable in equation.invars)
    pairs = [
        (names[0], left, (*((axis,) for axis in batch), rows, left_sum)),
        (names[1], right, (*((axis,) for axis in right_batch), right_sum, columns)),
    ]
    matrices = [
        graph.add("Reshape", [name, _joined(graph, sizes, groups)])
        for name, sizes, groups in pairs
    ]
    product = plain_tensor(graph.add("MatMul", matrices), len(batch) + 2)
    return [reshaped(graph, product, shape)]


def _joined(graph: Graph, shape: Sequence[Any], groups: Sequence[Sequence[int]]) -> str:
    """Return the name of a shape with one axis for each group of axes."""
    known = static_shape(shape)
    sizes = []
    for group in groups:
        own = [known[axis] for axis in group]
        sizes.append(-1 if None in own else math.prod(x for x in own if x is not None))
    if sizes.count(-1) > 1:
        raise unsupported("a product of all images with all images")
    return graph.integers(sizes)


LAYERS: dict[str, Rule] = {
    "conv_general_dilated": _convolution,
    "reduce_window_max": _pooling,
    "reduce_window_sum": _pooling,
    "dot_general": _product,
}
"""Rules by the name of JAX's operation."""
