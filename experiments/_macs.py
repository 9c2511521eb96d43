"""Multiply-accumulates of a function, counted in what JAX makes of it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Counts the multiply-accumulates of convolutions and matrix products.

    The usual number: zeros of the padding count, additions of biases, normalisations,
    activations and pooling do not. Nothing is computed.

    Args:
        function: A function of arrays.
        arguments: What it takes, arrays or ``jax.ShapeDtypeStruct``.

    Returns:
        The multiply-accumulates of one call.

    Raises:
        ValueError: If there are any in a loop without a fixed length, or in branches
            of which one is taken.
    """
    return _count(jax.make_jaxpr(function)(*arguments))


def _count(jaxpr: Any) -> int:
    # Closed or open, by its equations: the types' public place differs among versions.
    equations = getattr(jaxpr, "jaxpr", jaxpr).eqns
    return sum(_of_equation(equation) for equation in equations)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        # The kernel holds a group's input channels alone: groups need no factor.
        out_channels = kernel[params["dimension_numbers"].rhs_spec[0]]
        return _size(equation) * math.prod(kernel) // out_channels
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return _size(equation) * math.prod(left[axis] for axis in contracted)
    inner = sum(_count(jaxpr) for jaxpr in _inner(params))
    if inner and name in ("while", "cond"):
        raise ValueError(
            f"multiply-accumulates in a {name} depend on the data; count its parts"
        )
    return inner * params.get("length", 1) if name == "scan" else inner


def _size(equation: Any) -> int:
    return math.prod(equation.outvars[0].aval.shape)


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs within an equation: of jit, custom derivatives, loops."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(part, "jaxpr", part), "eqns"):
                yield part
