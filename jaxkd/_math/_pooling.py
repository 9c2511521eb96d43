"""Average pooling that brings feature maps to one size."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def adaptive_average_pool(
    x: Float[Array, "*batch h w c"], height: int, width: int
) -> Float[Array, "*batch {height} {width} c"]:
    """Average over bins that cover the map: bin i of n is [⌊iH/n⌋, ⌈(i+1)H/n⌉)."""
    if x.shape[-3:-1] == (height, width):
        return x
    rows, columns = _bins(x.shape[-3], height), _bins(x.shape[-2], width)
    return jnp.einsum(
        "...hwc,ih,jw->...ijc",
        x,
        jnp.asarray(rows, x.dtype),
        jnp.asarray(columns, x.dtype),
    )


def pool_to_match(
    a: Float[Array, "*batch h1 w1 c1"], b: Float[Array, "*batch h2 w2 c2"]
) -> tuple[Float[Array, "*batch h w c1"], Float[Array, "*batch h w c2"]]:
    """Pool both maps to the smaller height and the smaller width."""
    height = min(a.shape[-3], b.shape[-3])
    width = min(a.shape[-2], b.shape[-2])
    return (
        adaptive_average_pool(a, height, width),
        adaptive_average_pool(b, height, width),
    )


def _bins(size: int, count: int) -> np.ndarray:
    """Return the averaging matrix from ``size`` positions to ``count`` bins."""
    index, position = np.arange(count)[:, None], np.arange(size)[None, :]
    inside = (position >= index * size // count) & (
        position < -(-(index + 1) * size // count)
    )
    return inside / inside.sum(axis=1, keepdims=True)
