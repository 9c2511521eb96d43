"""Leading singular vectors, differentiable where singular values coincide."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxkd._math._stable import l2_normalize


def singular_vectors(
    x: Float[Array, "n c"], count: int
) -> tuple[Float[Array, "c {count}"], Float[Array, " {count}"]]:
    r"""Compute leading right singular vectors and squared singular values.

    They are differentiable also where singular values coincide or vanish; see
    :func:`jaxkd.losses.singular_value`.

    Args:
        x: A matrix.
        count: Number of vectors, at most :math:`\min(n, c)`.

    Returns:
        Vectors as columns, up to sign, zero where the singular value is; and the
        squared singular values, divided by the square of the matrix's largest entry.
    """
    # The vectors do not depend on the scale; without it nothing overflows.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    tiny = jnp.finfo(x.dtype).tiny
    nonzero = ~(largest < tiny)  # NaN is let through: it must not pass for zero
    x = jnp.where(nonzero, x / jnp.clip(largest, tiny, 1.0 / tiny), 0.0)
    return _leading(x, count)


@jax.custom_batching.custom_vmap
def _eigh(matrix):
    return tuple(jnp.linalg.eigh(matrix))


@_eigh.def_vmap
def _eigh_of_batch(_, is_batched, matrices):
    """Decompose the matrices of a batch one after the other on CPU.

    One of XLA's threads divides a batch among the others and then waits. If as many
    batches run side by side as there are threads, all of them wait forever, and a
    training step has several batches (jaxlib 0.10).
    """
    decompose = jax.lax.platform_dependent(
        matrices,
        cpu=lambda m: jax.lax.map(_eigh, m),
        default=lambda m: tuple(jnp.linalg.eigh(m)),
    )
    return decompose, (True, True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _leading(x, count):
    """Compute eigenvectors and eigenvalues of ``x.T @ x`` by the smaller Gram."""
    wide = x.shape[0] < x.shape[1]
    gram = x @ x.T if wide else x.T @ x
    squares, vectors = _eigh(gram)  # ascending
    squares, vectors = squares[::-1][:count], vectors[:, ::-1][:, :count]
    rounding = max(x.shape) * jnp.finfo(x.dtype).eps
    exists = squares > rounding * squares[0]
    if wide:
        vectors = l2_normalize(x.T @ vectors, axis=0)
    vectors = jnp.where(exists[None, :] | jnp.isnan(squares[0]), vectors, 0.0)
    return vectors, jnp.where(exists | jnp.isnan(squares), squares, 0.0)


@_leading.defjvp
def _leading_jvp(count, primals, tangents):
    (x,), (dx,) = primals, tangents
    vectors, squares = _leading(x, min(x.shape))
    top, top_squares = vectors[:, :count], squares[:count]
    # dM v for the wanted vectors, M = x^T x; then its parts along the other vectors and
    # along the null space, where the eigenvalue is zero.
    image = x @ top
    null_part = dx.T @ image
    change = null_part + x.T @ (dx @ top)
    guard = jnp.sqrt(jnp.finfo(x.dtype).eps) * jnp.where(
        squares[0] > 0.0, squares[0], 1.0
    )
    along = vectors.T @ change
    # Exclude the diagonal before the division: in second derivatives it would be a
    # difference of two equal numbers of size 1/guard^2.
    itself = jnp.eye(len(squares), count, dtype=bool)
    difference = jnp.where(itself, 1.0, top_squares[None, :] - squares[:, None])
    weights = jnp.where(itself, 0.0, _reciprocal(difference, guard))
    null_part = null_part - vectors @ (vectors.T @ null_part)
    dvectors = vectors @ (weights * along)
    dvectors = dvectors + null_part * _reciprocal(top_squares, guard)[None, :]
    dsquares = jnp.sum(top * change, axis=0)
    return (top, top_squares), (dvectors, dsquares)


def _reciprocal(x: Array, guard: Array) -> Array:
    """Return zero at zero and 1/x far from it, up to a relative (guard/x)^4."""
    square, guard = x * x, guard * guard
    return x * square / (square * square + guard * guard)
