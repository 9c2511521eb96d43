"""Fused sums over the bank: value and gradient in one pass, chunk by chunk."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.memory import _devices
from jaxkd.memory._negatives import Negatives

# Rows per chunk. On a CPU, the scores of a chunk fit in the cache, and the chunk is
# large enough for a fast matrix product. On other devices, there are few launches.
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
    r"""Compute the log-sum-exp of each anchor's scores with its negatives.

    With anchors :math:`a_i`, rows :math:`M_j` and weights :math:`w_i`,

    .. math::
        \ell_i = \log \sum_{j \in S_i} w_i e^{a_i \cdot M_j/\tau}, \qquad
        \nabla_{a_i} \ell_i = \frac{1}{\tau} \sum_{j \in S_i} \pi_{ij} M_j,

    where :math:`\pi_i` is the softmax over the negatives. One pass over chunks of rows
    computes both the value and the gradient. Memory therefore grows with the batch and
    the chunk size but not with the number of rows: no array of size ``[batch, rows]``
    is kept for the backward pass. The gradient treats the table as a constant. If a
    mesh is in use, each device processes its own rows of the table, and only arrays of
    the size of the anchors are exchanged.

    Args:
        anchors: Embeddings of the batch. Leading axes contain several anchors of an
            example, which share its negatives and one matrix product.
        table: Rows of the bank.
        negatives: Negatives of each example.
        temperature: Temperature :math:`\tau > 0`, which divides the scores.
        chunk_size: Number of rows per chunk; by default one that is fast on the device.

    Returns:
        One value per anchor, in nats, at least float32; ``-inf`` without negatives.

    Raises:
        TypeError: If anchors or table are not floating point.
        ValueError: If batch sizes or widths differ, a concrete temperature is not
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
    r"""Compute the sum of the softplus of each anchor's scores with its negatives.

    With anchors :math:`a_i`, rows :math:`M_j`, weights :math:`w_i` and
    :math:`\mathrm{softplus}(x) = \log(1 + e^x)`,

    .. math::
        \ell_i = w_i \sum_{j \in S_i} \mathrm{softplus}(a_i \cdot M_j/\tau - o),
        \qquad
        \nabla_{a_i} \ell_i = \frac{w_i}{\tau} \sum_{j \in S_i}
            \sigma(a_i \cdot M_j/\tau - o)\, M_j.

    This is the contribution of the negatives to noise-contrastive estimation, computed
    in the same single pass as :func:`negative_log_sum_exp`. The gradient treats the
    table and the offset as constants.

    Args:
        anchors: Embeddings of the batch; leading axes as in
            :func:`negative_log_sum_exp`.
        table: Rows of the bank.
        negatives: Negatives of each example.
        temperature: Temperature :math:`\tau > 0`, which divides the scores.
        offset: Offset :math:`o`, which is subtracted from the scaled scores.
        chunk_size: Number of rows per chunk; by default one that is fast on the device.

    Returns:
        One value per anchor, in nats, at least float32; zero without negatives.

    Raises:
        TypeError: If anchors or table are not floating point.
        ValueError: If batch sizes or widths differ, a concrete temperature is not
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
    """Check the arguments, scale the anchors and stop the gradient of the table."""
    anchors = _checks.as_float_array(anchors, "anchors")
    table = jnp.asarray(table)
    if not jnp.issubdtype(table.dtype, jnp.floating):
        raise InvalidTypeError(
            f"table must be floating point, got dtype {table.dtype}", argument="table"
        )
    if anchors.shape[-1] != table.shape[-1]:
        raise InvalidInputError(
            "anchors and table must have the same width, "
            f"got {anchors.shape} and {table.shape}",
            argument="table",
        )
    if anchors.shape[-2] != negatives.labels.shape[0]:
        raise InvalidInputError(
            "anchors and negatives must have the same batch size, "
            f"got {anchors.shape} and {negatives.labels.shape}",
            argument="negatives",
        )
    _checks.check_temperature(temperature=temperature)
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
    # The derivative of a log-sum-exp is the softmax mean of the rows. The result is
    # linear in the tangent, so reverse mode stores this mean only.
    anchors, table, negatives = primals
    value, mean = _stream(anchors, table, negatives, chunk_size, with_mean=True)
    return value, jnp.sum(mean * tangents[0], axis=-1)


class _Carry(NamedTuple):
    """Partial log-sum-exp, relative to the largest score so far."""

    peak: Float[Array, " anchors"]
    total: Float[Array, " anchors"]
    mean: Float[Array, "anchors dim"] | None


def _stream(anchors, table, negatives, chunk_size, *, with_mean):
    """Compute the log-sum-exp and, if ``with_mean``, the softmax mean of the rows."""
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

    # The initial peak is finite, so that differences are defined for anchors that have
    # no negative yet.
    carry = _Carry(
        peak=jnp.full((anchor_count,), jnp.finfo(dtype).min, dtype),
        total=jnp.zeros((anchor_count,), dtype),
        mean=jnp.zeros((anchor_count, anchors.shape[-1]), dtype) if with_mean else None,
    )
    carry = _over_chunks(
        anchors, table, negatives, chunk_size, carry, add_chunk, _combine_devices
    )
    value = (carry.peak + jnp.log(carry.total)).reshape(anchors.shape[:-1])
    if carry.mean is None:
        return value, None
    mean = carry.mean / jnp.where(carry.total == 0, 1, carry.total)[:, None]
    return value, mean.reshape(anchors.shape)


def _combine_devices(carry: _Carry) -> _Carry:
    """Combine the log-sum-exps over the rows of each device."""
    peak = jax.lax.pmax(carry.peak, _devices.DATA_AXIS)
    shrink = jnp.exp(carry.peak - peak)
    mean = carry.mean
    if mean is not None:
        mean = jax.lax.psum(shrink[:, None] * mean, _devices.DATA_AXIS)
    return _Carry(peak, jax.lax.psum(shrink * carry.total, _devices.DATA_AXIS), mean)


def _sum_devices(carry):
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
    """Compute the sum of softplus and, if ``with_slope``, its gradient."""
    total = jnp.zeros((anchors.size // anchors.shape[-1],), anchors.dtype)
    if not with_slope:

        def add_value(total, scores, mask, rows):
            del rows
            terms = jnp.where(mask, jax.nn.softplus(scores), 0.0)
            return total + jnp.sum(terms, axis=0)

        total = _over_chunks(
            *(anchors, table, negatives, chunk_size, total, add_value, _sum_devices),
            offset=offset,
        )
        return total.reshape(anchors.shape[:-1])

    def add_both(carry, scores, mask, rows):
        total, slope = carry
        terms = jnp.where(mask, jax.nn.softplus(scores), 0.0)
        pull = jnp.where(mask, jax.nn.sigmoid(scores), 0.0)
        return total + jnp.sum(terms, axis=0), slope + pull.T @ rows

    slope = jnp.zeros((total.shape[0], anchors.shape[-1]), anchors.dtype)
    carry = total, slope
    total, slope = _over_chunks(
        *(anchors, table, negatives, chunk_size, carry, add_both, _sum_devices),
        offset=offset,
    )
    return total.reshape(anchors.shape[:-1]), slope.reshape(anchors.shape)


def _over_chunks(
    anchors, table, negatives, chunk_size, carry, add, combine, *, offset=0.0
):
    """Fold ``add(carry, scores - offset, mask, rows)`` over chunks of the candidates.

    If the table is distributed over several devices, each folds over its own rows, and
    ``combine`` combines their results. ``add`` must not close over arrays: those of
    trials would not be divided among the devices as its arguments are.
    """
    offset = jnp.asarray(offset, anchors.dtype)
    flat = anchors.reshape(-1, anchors.shape[-1])
    if negatives.lists is not None and _devices.shards() == 1:
        return _over_lists(flat, table, negatives, chunk_size, carry, add, offset)
    negatives = negatives.tile(flat.shape[0] // anchors.shape[-2])
    if _devices.shards() == 1:
        return _fold(flat, table, negatives, chunk_size, carry, add, offset)

    def on_own_rows(table, flat, negatives, carry, offset):
        local, count = _devices.local_negatives(negatives, len(table))
        size = min(chunk_size, local.candidate_labels.shape[0])
        return combine(_fold(flat, table, local, size, carry, add, offset, count))

    fill = _devices.padded(len(table)) - len(table)
    # A bank that was initialized for this mesh needs no padding and is not copied.
    table = jnp.pad(table, ((0, fill), (0, 0)))
    return _devices.on_every_shard(on_own_rows, table, flat, negatives, carry, offset)


def _over_lists(flat, table, negatives, chunk_size, carry, add, offset):
    """Fold over the chunks of each example's own list, one example after another."""
    batch, k = negatives.lists.shape
    counts = negatives.window.last - negatives.window.first + 1
    every = Negatives(
        labels=jnp.zeros((len(flat) // batch,), jnp.int32),
        candidate_labels=jnp.ones((k,), jnp.int32),
        log_weight=jnp.zeros((len(flat) // batch,)),
    )

    def by_example(x):
        return jnp.moveaxis(x.reshape(-1, batch, *x.shape[1:]), 1, 0)

    def of_example(given):
        flat, carry, rows, count = given
        own = every._replace(rows=rows)
        return _fold(flat, table, own, min(chunk_size, k), carry, add, offset, count)

    flat, carry = jax.tree.map(by_example, (flat, carry))
    carry = jax.lax.map(of_example, (flat, carry, negatives.lists, counts))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), carry
    )


def _fold(flat, table, negatives, chunk_size, carry, add, offset, count=None):
    """Fold over the candidates on one device, or over the first ``count`` of them."""

    def add_chunk(carry, start, size):
        part = negatives.part(start, size)
        if part.rows is None:
            rows = jax.lax.dynamic_slice_in_dim(table, start, size)
        else:
            rows = table[part.rows]
        rows, mask = rows.astype(flat.dtype), part.mask()
        if count is not None:
            numbers = jnp.arange(size, dtype=count.dtype)
            mask &= (start + numbers < count)[:, None]
        # Rows are the leading axis, over which XLA vectorizes reductions.
        return add(carry, rows @ flat.T - offset, mask, rows)

    chunks, remainder = divmod(negatives.candidate_labels.shape[0], chunk_size)
    needed = chunks if count is None else jnp.minimum(chunks, -(-count // chunk_size))
    carry = jax.lax.fori_loop(
        0, needed, lambda i, c: add_chunk(c, i * chunk_size, chunk_size), carry
    )
    if remainder:
        carry = add_chunk(carry, chunks * chunk_size, remainder)
    return carry
