"""The fused pass: a log-sum-exp over the bank and its gradient, chunk by chunk."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.memory import _devices
from jaxkd.memory._negatives import Negatives

# Rows a chunk: on CPU, small enough that its scores stay in the cache and large enough
# for a fast matrix product; elsewhere, few enough launches.
_CHUNK_ROWS_CPU = 2048
_CHUNK_ROWS = 32768


def negative_log_sum_exp(
    anchors: Float[ArrayLike, "*anchors batch dim"],
    table: Float[ArrayLike, "rows dim"],
    negatives: Negatives,
    *,
    temperature: Real[ArrayLike, ""] = 1.0,
    chunk_size: int | None = None,
) -> Float[Array, "*anchors batch"]:
    r"""Log-sum-exp of each anchor's scores with its negatives.

    With anchors :math:`a_i`, rows :math:`M_j` and weights :math:`w_i`,

    .. math::
        \ell_i = \log \sum_{j \in S_i} w_i e^{a_i \cdot M_j/\tau}, \qquad
        \nabla_{a_i} \ell_i = \frac{1}{\tau} \sum_{j \in S_i} \pi_{ij} M_j,

    where :math:`\pi_i` is the softmax over the negatives. One pass over chunks of rows
    yields the value and the gradient together, so memory grows with the batch and the
    chunk, not with the number of rows: nothing of size ``[batch, rows]`` is kept for
    the backward pass. The table is a constant for the gradient. Where a mesh is in use,
    every device passes over its own rows of the table, and what is exchanged is of the
    anchors' size.

    Args:
        anchors: Embeddings of the batch; leading axes hold several anchors of an
            example, which share its negatives and one matrix product.
        table: The rows of the bank.
        negatives: Which rows are negatives of which example.
        temperature: Divides the scores, :math:`\tau > 0`.
        chunk_size: Rows a chunk. By default what is fast on the device.

    Returns:
        One value per anchor, in nats, at least float32; ``-inf`` without negatives.

    Raises:
        TypeError: If anchors or table are not floating point.
        ValueError: If batch or width do not match, or a concrete temperature is not
            positive, or the chunk size is less than 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> labels = jnp.array([0, 1, 1])
        >>> negatives = memory.all_negatives(
        ...     jax.random.key(0), labels[:1], labels, num_negatives=2, num_classes=2
        ... )
        >>> anchors, table = jnp.ones((1, 4)), jnp.zeros((3, 4))
        >>> print(memory.negative_log_sum_exp(anchors, table, negatives).round(4))
        [0.6931]

    References:
        Milakov & Gimelshein, `Online normalizer calculation for softmax
        <https://arxiv.org/abs/1805.02867>`_, 2018; Dao et al., `FlashAttention
        <https://arxiv.org/abs/2205.14135>`_, 2022.
    """
    anchors, table, chunk_size = _prepare(
        anchors, table, negatives, temperature, chunk_size
    )
    value = _log_sum_exp(anchors, table, negatives, chunk_size)
    return value + jnp.broadcast_to(
        negatives.log_weight.astype(value.dtype), value.shape
    )


def negative_softplus_sum(
    anchors: Float[ArrayLike, "*anchors batch dim"],
    table: Float[ArrayLike, "rows dim"],
    negatives: Negatives,
    *,
    temperature: Real[ArrayLike, ""] = 1.0,
    offset: Real[ArrayLike, ""] = 0.0,
    chunk_size: int | None = None,
) -> Float[Array, "*anchors batch"]:
    r"""Sum of the softplus of each anchor's scores with its negatives.

    With anchors :math:`a_i`, rows :math:`M_j`, weights :math:`w_i` and
    :math:`\mathrm{softplus}(x) = \log(1 + e^x)`,

    .. math::
        \ell_i = w_i \sum_{j \in S_i} \mathrm{softplus}(a_i \cdot M_j/\tau - o),
        \qquad
        \nabla_{a_i} \ell_i = \frac{w_i}{\tau} \sum_{j \in S_i}
            \sigma(a_i \cdot M_j/\tau - o)\, M_j.

    What noise-contrastive estimation asks of its negatives, in the same single pass as
    :func:`negative_log_sum_exp`; the table and the offset are constants for the
    gradient.

    Args:
        anchors: Embeddings of the batch; leading axes as in
            :func:`negative_log_sum_exp`.
        table: The rows of the bank.
        negatives: Which rows are negatives of which example.
        temperature: Divides the scores, :math:`\tau > 0`.
        offset: What is taken from the scores after that, :math:`o`.
        chunk_size: Rows a chunk. By default what is fast on the device.

    Returns:
        One value per anchor, in nats, at least float32; zero without negatives.

    Raises:
        TypeError: If anchors or table are not floating point.
        ValueError: If batch or width do not match, or a concrete temperature is not
            positive, or the chunk size is less than 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import memory
        >>> labels = jnp.array([0, 1, 1])
        >>> negatives = memory.all_negatives(
        ...     jax.random.key(0), labels[:1], labels, num_negatives=2, num_classes=2
        ... )
        >>> anchors, table = jnp.ones((1, 4)), jnp.zeros((3, 4))
        >>> print(memory.negative_softplus_sum(anchors, table, negatives).round(4))
        [1.3863]

    References:
        Gutmann and Hyvärinen, `Noise-contrastive estimation
        <https://proceedings.mlr.press/v9/gutmann10a.html>`_, 2010.
    """
    anchors, table, chunk_size = _prepare(
        anchors, table, negatives, temperature, chunk_size
    )
    offset = jax.lax.stop_gradient(jnp.asarray(offset, anchors.dtype))
    value = _softplus_sum(anchors, table, negatives, offset, chunk_size)
    weight = jnp.exp(negatives.log_weight.astype(value.dtype))
    return value * jnp.broadcast_to(weight, value.shape)


def _prepare(anchors, table, negatives, temperature, chunk_size):
    """Checks the arguments; scales the anchors, makes the table a constant."""
    anchors = _checks.as_float_array(anchors, "anchors")
    table = jnp.asarray(table)
    if not jnp.issubdtype(table.dtype, jnp.floating):
        raise TypeError(f"table must be floating point, got dtype {table.dtype}")
    if anchors.shape[-1] != table.shape[-1]:
        raise InvalidInputError(
            "anchors and table must have the same width, "
            f"got {anchors.shape} and {table.shape}"
        )
    if anchors.shape[-2] != negatives.labels.shape[0]:
        raise InvalidInputError(
            "anchors and negatives must have the same batch, "
            f"got {anchors.shape} and {negatives.labels.shape}"
        )
    _checks.check_positive(temperature=temperature)
    candidates = negatives.candidate_labels.shape[0]
    if chunk_size is None:
        on_cpu = jax.default_backend() == "cpu"
        chunk_size = _CHUNK_ROWS_CPU if on_cpu else _CHUNK_ROWS
    _checks.check_at_least(1, chunk_size=chunk_size)
    scaled = anchors / jnp.asarray(temperature, anchors.dtype)
    return scaled, jax.lax.stop_gradient(table), min(chunk_size, candidates)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _log_sum_exp(anchors, table, negatives, chunk_size):
    return _stream(anchors, table, negatives, chunk_size, with_mean=False)[0]


@_log_sum_exp.defjvp
def _log_sum_exp_jvp(chunk_size, primals, tangents):
    # The derivative of a log-sum-exp is the softmax mean of the rows. Linear in the
    # tangent, it is all that reverse mode has to keep.
    anchors, table, negatives = primals
    value, mean = _stream(anchors, table, negatives, chunk_size, with_mean=True)
    return value, jnp.sum(mean * tangents[0], axis=-1)


class _Carry(NamedTuple):
    """A log-sum-exp under way: relative to the largest score seen so far."""

    peak: Float[Array, " anchors"]
    total: Float[Array, " anchors"]
    mean: Float[Array, "anchors dim"] | None


def _stream(anchors, table, negatives, chunk_size, *, with_mean):
    """The log-sum-exp and, if asked, the softmax mean of the rows."""
    dtype, anchor_count = anchors.dtype, anchors.size // anchors.shape[-1]

    def add_chunk(carry, scores, mask, rows):
        scores = jnp.where(mask, scores, -jnp.inf)
        peak = jnp.maximum(carry.peak, jnp.max(scores, axis=0))
        shrink = jnp.exp(carry.peak - peak)
        terms = jnp.exp(scores - peak[None, :])
        total = shrink * carry.total + jnp.sum(terms, axis=0)
        mean = carry.mean
        if mean is not None:
            mean = shrink[:, None] * mean + terms.T @ rows
        return _Carry(peak, total, mean)

    # A finite start keeps the differences defined while an anchor has no negative.
    carry = _Carry(
        peak=jnp.full((anchor_count,), jnp.finfo(dtype).min, dtype),
        total=jnp.zeros((anchor_count,), dtype),
        mean=jnp.zeros((anchor_count, anchors.shape[-1]), dtype) if with_mean else None,
    )
    carry = _over_chunks(
        anchors, table, negatives, chunk_size, carry, add_chunk, _combine
    )
    value = (carry.peak + jnp.log(carry.total)).reshape(anchors.shape[:-1])
    if carry.mean is None:
        return value, None
    mean = carry.mean / jnp.where(carry.total == 0, 1, carry.total)[:, None]
    return value, mean.reshape(anchors.shape)


def _combine(carry: _Carry) -> _Carry:
    """The log-sum-exp over all devices' rows."""
    peak = jax.lax.pmax(carry.peak, _devices.DATA_AXIS)
    shrink = jnp.exp(carry.peak - peak)
    mean = carry.mean
    if mean is not None:
        mean = jax.lax.psum(shrink[:, None] * mean, _devices.DATA_AXIS)
    return _Carry(peak, jax.lax.psum(shrink * carry.total, _devices.DATA_AXIS), mean)


def _add_up(carry):
    return jax.lax.psum(carry, _devices.DATA_AXIS)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _softplus_sum(anchors, table, negatives, offset, chunk_size):
    return _stream_softplus(anchors, table, negatives, offset, chunk_size)


@_softplus_sum.defjvp
def _softplus_sum_jvp(chunk_size, primals, tangents):
    anchors, table, negatives, offset = primals
    value, slope = _stream_softplus(
        anchors, table, negatives, offset, chunk_size, with_slope=True
    )
    return value, jnp.sum(slope * tangents[0], axis=-1)


def _stream_softplus(
    anchors, table, negatives, offset, chunk_size, *, with_slope=False
):
    """The sum of softplus and, if asked, its gradient."""
    total = jnp.zeros((anchors.size // anchors.shape[-1],), anchors.dtype)
    if not with_slope:

        def add_value(total, scores, mask, rows):
            del rows
            terms = jnp.where(mask, jax.nn.softplus(scores - offset), 0.0)
            return total + jnp.sum(terms, axis=0)

        total = _over_chunks(
            anchors, table, negatives, chunk_size, total, add_value, _add_up
        )
        return total.reshape(anchors.shape[:-1])

    def add_both(carry, scores, mask, rows):
        total, slope = carry
        scores = scores - offset
        terms = jnp.where(mask, jax.nn.softplus(scores), 0.0)
        pull = jnp.where(mask, jax.nn.sigmoid(scores), 0.0)
        return total + jnp.sum(terms, axis=0), slope + pull.T @ rows

    slope = jnp.zeros((total.shape[0], anchors.shape[-1]), anchors.dtype)
    total, slope = _over_chunks(
        anchors, table, negatives, chunk_size, (total, slope), add_both, _add_up
    )
    return total.reshape(anchors.shape[:-1]), slope.reshape(anchors.shape)


def _over_chunks(anchors, table, negatives, chunk_size, carry, add, combine):
    """Folds ``add(carry, scores, mask, rows)`` over chunks of the candidates.

    Where the table lies on several devices, each folds over its own rows, and
    ``combine`` makes one of what they carry.
    """
    flat = anchors.reshape(-1, anchors.shape[-1])
    negatives = negatives.tile(flat.shape[0] // anchors.shape[-2])
    if _devices.shards() == 1:
        return _fold(flat, table, negatives, chunk_size, carry, add)

    def on_own_rows(table, flat, negatives, carry):
        mine, count = _devices.own(negatives, len(table))
        size = min(chunk_size, mine.candidate_labels.shape[0])
        return combine(_fold(flat, table, mine, size, carry, add, count))

    fill = _devices.padded(len(table)) - len(table)
    table = jnp.pad(table, ((0, fill), (0, 0)))  # no copy of a bank made to lie there
    return _devices.on_every_shard(on_own_rows, table, flat, negatives, carry)


def _fold(flat, table, negatives, chunk_size, carry, add, count=None):
    """The fold on one device; if asked, over the first ``count`` candidates only."""

    def add_chunk(carry, start, size):
        part = negatives.part(start, size)
        if part.rows is None:
            rows = jax.lax.dynamic_slice_in_dim(table, start, size)
        else:
            rows = table[part.rows]
        rows, mask = rows.astype(flat.dtype), part.mask()
        if count is not None:
            mask &= (start + jnp.arange(size) < count)[:, None]
        # Rows come first: XLA vectorises reductions over a leading axis.
        return add(carry, rows @ flat.T, mask, rows)

    chunks, remainder = divmod(negatives.candidate_labels.shape[0], chunk_size)
    needed = chunks if count is None else jnp.minimum(chunks, -(-count // chunk_size))
    carry = jax.lax.fori_loop(
        0, needed, lambda i, c: add_chunk(c, i * chunk_size, chunk_size), carry
    )
    if remainder:
        carry = add_chunk(carry, chunks * chunk_size, remainder)
    return carry
