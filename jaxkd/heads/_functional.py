"""Convert heads to plain arrays, which a pure loss function can use, and back."""

from collections.abc import Callable
from typing import Any, TypeVar

from flax import nnx

PyTree = Any
Module = TypeVar("Module", bound=nnx.Module)


def init_heads(
    make: Callable[[nnx.Rngs], nnx.Module], rngs: nnx.Rngs
) -> tuple[PyTree, PyTree]:
    """Build modules and return their arrays.

    Args:
        make: Builds the modules.
        rngs: Randomness for the initial parameters.

    Returns:
        ``(params, rest)``, nested dictionaries of arrays: the trainable parameters, and
        everything else, such as batch statistics.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import heads
        >>> make = lambda rngs: heads.Embedding(3, 2, rngs=rngs)
        >>> params, rest = heads.init_heads(make, nnx.Rngs(0))
        >>> heads.bind_heads(make, params, rest)(jnp.ones((4, 3))).shape
        (4, 2)
    """
    _, params, rest = nnx.split(make(rngs), nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def bind_heads(
    make: Callable[[nnx.Rngs], Module], params: PyTree, rest: PyTree
) -> Module:
    """Rebuild modules from their arrays.

    The static part of the modules is rebuilt during tracing, without computing
    anything, so it is part of neither the training state nor the checkpoints. Call this
    function inside the function that is differentiated or compiled.

    Args:
        make: The function passed to :func:`init_heads`, or one that builds the same
            modules.
        params: Trainable parameters.
        rest: All other arrays.

    Returns:
        The modules. Calls that update their statistics do not change ``rest``: read the
        updated arrays with :func:`rest_of`.
    """
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    return nnx.merge(nnx.graphdef(abstract), params, rest, copy=True)


def rest_of(module: nnx.Module) -> PyTree:
    """Return the arrays that are not trained, in the format of :func:`init_heads`."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))
