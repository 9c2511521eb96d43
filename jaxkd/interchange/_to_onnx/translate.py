"""Translate the program that JAX traces to an ONNX model."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxkd.interchange._to_onnx.graph import (
    BATCH,
    INPUT,
    IR_VERSION,
    OPSET,
    OUTPUT,
    Graph,
    Value,
    fuse_biases,
    plain_tensor,
    static_shape,
    unsupported,
)
from jaxkd.interchange._to_onnx.layers import LAYERS
from jaxkd.interchange._to_onnx.operations import IDENTITIES, RULES, onnx_type
from jaxkd.interchange._to_onnx.shapes import SHAPES

_RULES = {**RULES, **SHAPES, **LAYERS}
# Calls of a function that is written in place.
_CALLS = frozenset(
    {
        *("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2"),
        *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
    }
)
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def to_onnx(program: ClosedJaxpr, metadata: dict[str, str]) -> Any:
    """Translate a program from images to logits.

    Args:
        program: The traced program. The first axis of its only argument and of its
            only result has the symbolic size ``batch``.
        metadata: Entries of the file's metadata.

    Returns:
        The ``onnx.ModelProto``.

    Raises:
        InvalidInputError: If the program has an operation without a rule.
    """
    from onnx import helper, numpy_helper

    graph = Graph()
    (images,), (logits,) = program.in_avals, program.out_avals
    start = plain_tensor(INPUT, len(images.shape))
    (result,) = _write(graph, program.jaxpr, program.consts, [start])
    last = graph.plain(result)
    graph.nodes.append(helper.make_node("Identity", [last], [OUTPUT], name="output"))
    fuse_biases(graph)
    used = {name for node in graph.nodes for name in node.input}

    def declared(name: str, aval: Any) -> Any:
        shape = [BATCH if n is None else n for n in static_shape(aval.shape)]
        return helper.make_tensor_value_info(name, onnx_type(aval.dtype), shape)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "network",
            [declared(INPUT, images)],
            [declared(OUTPUT, logits)],
            [
                numpy_helper.from_array(array, name)
                for name, array in graph.constants.items()
                if name in used
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jaxkd",
    )
    helper.set_model_props(model, metadata)
    return model


def _write(
    graph: Graph, program: Any, constants: Sequence[Any], inputs: Sequence[Value]
) -> list[Value]:
    """Write the equations of a program, and return its results."""
    values: dict[Any, Value] = dict(zip(program.invars, inputs, strict=True))
    values.update(
        (variable, np.asarray(constant))
        for variable, constant in zip(program.constvars, constants, strict=True)
    )

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            return np.asarray(atom.val, getattr(atom.aval, "dtype", None))
        return values[atom]

    for equation in program.eqns:
        operands = [read(atom) for atom in equation.invars]
        results = _results(graph, equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]


def _results(graph: Graph, equation: Any, operands: list[Value]) -> Sequence[Value]:
    """Write one equation, or compute it if all of its operands are constants."""
    name = equation.primitive.name
    if name in _CALLS:
        body = next(equation.params[x] for x in _BODIES if x in equation.params)
        program = getattr(body, "jaxpr", body)
        return _write(graph, program, getattr(body, "consts", ()), operands)
    if name == "dim_as_value":
        raise unsupported("the number of images as a value")
    if name in IDENTITIES:
        return operands
    is_constant = all(isinstance(value, np.ndarray) for value in operands)
    shapes = [static_shape(variable.aval.shape) for variable in equation.outvars]
    if is_constant and not any(None in shape for shape in shapes):
        found = equation.primitive.bind(*operands, **equation.params)
        found = found if equation.primitive.multiple_results else [found]
        return [np.asarray(jax.device_get(each)) for each in found]
    if name not in _RULES:
        raise unsupported(f"the operation {name!r} of JAX")
    return _RULES[name](graph, equation, operands)
