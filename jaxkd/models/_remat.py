"""Blocks of a network whose activations can be computed again for the gradient."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxkd.models._capture import note

_FLAG = "computed_again"


def call_block(block: Callable[..., Any], *inputs: Any) -> Any:
    """Call a block of layers, whose activations may be computed again for the gradient.

    This is ``block(*inputs)``. In training with ``remat=True``
    (:func:`jaxkd.training.compile_program`), only the inputs of the block are kept for
    the backward pass, and its activations are computed again there. All of jaxkd's
    networks call their blocks in this way. Do the same in your own network to use the
    option with it.

    Args:
        block: A module, usually one of several in a row.
        *inputs: Its arrays.

    Returns:
        The value of the call.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(3)]
        >>> x = jnp.ones((1, 2))
        >>> for layer in layers:
        ...     x = models.call_block(layer, x)
        >>> x.shape
        (1, 2)
    """
    if not getattr(block, _FLAG, False):
        return block(*inputs)
    value = nnx.remat(lambda module, *given: module(*given))(block, *inputs)
    if isinstance(block, nnx.Module):
        note(block, value)  # a copy of it was called, inside of the transformation
    return value


def compute_again(network: nnx.Module) -> None:
    """Let the blocks of a network compute their activations again, in place."""
    for _, module in nnx.iter_modules(network):
        setattr(module, _FLAG, True)
