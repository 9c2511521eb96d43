"""Heads as plain arrays, so that a pure loss can use them."""

from collections.abc import Callable
from typing import Any, TypeVar

from flax import nnx

PyTree = Any
Module = TypeVar("Module", bound=nnx.Module)


def init_heads(
    make: Callable[[nnx.Rngs], nnx.Module], rngs: nnx.Rngs
) -> tuple[PyTree, PyTree]:
    """Builds modules and returns their arrays.

    Args:
        make: Builds the modules.
        rngs: Randomness for the initial parameters.

    Returns:
        ``(params, rest)``, nested dictionaries of arrays: what is trained, and
        everything else, such as the statistics of batch normalisation.

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
    """Puts arrays back into the modules they came from.

    The modules' static part is rebuilt while tracing, without computing anything, so
    neither training state nor checkpoints hold it. Call this inside the function that
    is differentiated or compiled.

    Args:
        make: What :func:`init_heads` was given, or a function that builds the same.
        params: Trained arrays.
        rest: The other arrays.

    Returns:
        The modules. Calls that change their statistics leave ``rest`` as it is: read
        the new ones with :func:`rest_of`.
    """
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    return nnx.merge(nnx.graphdef(abstract), params, rest, copy=True)


def rest_of(module: nnx.Module) -> PyTree:
    """The arrays of a module that are not trained, as :func:`init_heads` gives them."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param)))
