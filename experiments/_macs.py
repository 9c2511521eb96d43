"""Count the multiply-accumulates of a function in its jaxpr."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Count the multiply-accumulates of convolutions and matrix products.

    As usual, zeros of the padding count, but the addition of biases, normalization,
    activations and pooling do not. The function is traced and not computed.

    Args:
        function: A function of arrays.
        arguments: Its arguments, as arrays or ``jax.ShapeDtypeStruct``.

    Returns:
        The number of multiply-accumulates of one call.

    Raises:
        ValueError: If a loop without a fixed length, or a branch, has
            multiply-accumulates.
    """
    return _count(jax.make_jaxpr(function)(*arguments))


def _count(jaxpr: Any) -> int:
    # Closed or open jaxpr: the public module of these types differs between versions.
    equations = getattr(jaxpr, "jaxpr", jaxpr).eqns
    return sum(_of_equation(equation) for equation in equations)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        # The kernel has only the input channels of one group, so groups need no factor.
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
    """Yield the jaxprs within an equation, such as those of jit, derivatives, loops."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(part, "jaxpr", part), "eqns"):
                yield part
