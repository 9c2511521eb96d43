"""Helpers of methods that compare the networks stage by stage."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxkd import heads
from jaxkd._errors import InvalidInputError
from jaxkd.distillers._base import DistillerState, Metrics, Spec, require_stages


def summed(
    parts: dict[str, Float[Array, " batch"]],
) -> tuple[Float[Array, " batch"], Metrics]:
    """Return the sum of the stages' losses, and their means as metrics."""
    metrics = {name: jnp.mean(part) for name, part in parts.items()}
    return functools.reduce(operator.add, parts.values()), metrics


def require_maps(
    spec: Spec, method: str, *, preactivations: bool = False, equal: bool = True
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Call :func:`require_stages`, and require that every stage has height and width.

    Raises:
        ValueError: If a stage of a network is not a feature map.
    """
    both = require_stages(spec, method, preactivations=preactivations, equal=equal)
    for name, maps in zip(("student", "teacher"), both, strict=True):
        for i, x in enumerate(maps):
            if len(x.shape) != 4:
                raise InvalidInputError(
                    f"{method} compares feature maps [batch, height, width, channels], "
                    f"but stage {i} of the {name} has the shape {x.shape}",
                    argument="spec",
                )
    return both


def stage_heads(
    make: Callable[[Any, Any], Callable[..., Any]],
    student: Sequence[Any],
    teacher: Sequence[Any],
) -> dict[str, Callable[..., Any]]:
    """Return the builder of each stage's head but the stem's, by the stage's name."""
    pairs = zip(student[1:], teacher[1:], strict=True)
    return {f"stage{i}": make(s, t) for i, (s, t) in enumerate(pairs, start=1)}


def init_stages(makes: dict[str, Callable[..., Any]], rngs: Any) -> DistillerState:
    """Initialize the heads; return their parameters and other arrays by stage."""
    built = {name: heads.init_heads(make, rngs) for name, make in makes.items()}
    return DistillerState(
        params={name: params for name, (params, _) in built.items()},
        extra={name: rest for name, (_, rest) in built.items()},
    )


def head_dtype(x: Any) -> DTypeLike:
    """Return the dtype of heads that read an array: float64 or float32."""
    return x.dtype if jnp.finfo(x.dtype).bits > 32 else jnp.float32


def not_pretrained(method: str) -> InvalidInputError:
    return InvalidInputError(
        f"{method} has a stage before this one: train by its pretraining, then go on "
        "with the state that the pretraining's finish returns",
        argument="params",
    )
