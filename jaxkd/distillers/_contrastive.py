"""Contrastive representation distillation, with a memory bank."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, DTypeLike, Float, Int

from jaxkd import _checks, losses, memory
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    require_embeddings,
    rows_of,
)
from jaxkd.distillers._metadata import method
from jaxkd.distillers._sampling import (
    check_bank_settings,
    choose_sampler,
    contrast_classes,
    count_negatives,
)
from jaxkd.distillers._unlabeled import classes_of_batch
from jaxkd.heads import Embedding, bind_heads, init_heads

# As published: keeps the logarithms defined where a probability underflows.
_EPSILON = 1e-7


class ContrastState(NamedTuple):
    """State of contrastive representation distillation between steps.

    Attributes:
        bank: Latest embeddings of every training example.
        row_labels: Classes of the training examples; of one without a label, the
            number of classes plus its row number, which no other has.
        num_negatives: Number of negatives of each example.
        normalizer: The constants ``Z`` of the student's and the teacher's side;
            zero until the first batch has been seen.
    """

    bank: memory.Bank
    row_labels: Int[Array, " rows"]
    num_negatives: Int[Array, ""]
    normalizer: Float[Array, "2"]


@method(
    "crd",
    weights={"ce": 1.0, "crd": 0.8},
    compares="embeddings against a bank, by noise contrast",
    reads=("embedding",),
    losses=(losses.noise_contrastive,),
    repdistiller="crd",
    unlabeled="negatives",
)
def contrastive_representation(
    *,
    dim: int = 128,
    temperature: float | int = 0.07,
    bank_momentum: float | int = 0.5,
    num_negatives: int | None = None,
    negatives: str | Callable[..., memory.Negatives] = "sampled",
    bank_dtype: DTypeLike = "float32",
    chunk_size: int | None = None,
) -> Distiller:
    r"""Contrast embeddings against a memory bank of both networks (CRD).

    Noise-contrastive estimation distinguishes linear embeddings :math:`h^s, h^t` of
    unit length from :math:`K` samples of other classes, each against the *other*
    network's bank :math:`M`:

    .. math::
        \ell_i = c(h^s_i, M^t) + c(h^t_i, M^s), \qquad
        c(a_i, M) = -\log \frac{P(a_i, M_i)}{P(a_i, M_i) + K/N}
            - \sum_{j \in S_i} w_{ij} \log \frac{K/N}{P(a_i, M_j) + K/N}, \qquad
        P(a, m) = \frac{e^{a \cdot m/\tau}}{Z}.

    The normalizer :math:`Z` of each side is the mean of :math:`e^{a \cdot m/\tau}` over
    the first batch's positives and negatives, times the number of examples :math:`N`;
    it is a constant afterwards and is checkpointed with the bank. See
    :func:`jaxkd.losses.noise_contrastive`. The computation never gathers an array of
    size ``[batch, K, dim]``.

    An example without a label is a class of its own: all other examples may be its
    negatives, and it may be a negative of all others, also of those of its true class.

    Args:
        dim: Width of the embeddings and of the bank.
        temperature: Divides the scores, :math:`\tau`; 0.07 in the published
            benchmark, 0.1 in the paper.
        bank_momentum: Weight of the old row when an embedding enters the bank.
        num_negatives: Number :math:`K` of negatives of each example. By default 16,384,
            or the largest number available to every class, if that is less.
        negatives: How to select rows of other classes; see :func:`holistic`.
        bank_dtype: Dtype of the bank; ``"bfloat16"`` halves its memory.
        chunk_size: Number of rows of the bank that are read at a time.

    Returns:
        A distiller. Its loss is in nats; its metrics are the mean of each side,
        ``student`` and ``teacher``, and :func:`jaxkd.memory.bank_statistics`.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a setting is out of range or unknown; from ``init``, if there is
            no teacher, only one class, or a class with fewer than ``num_negatives``
            examples of others.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     crd=(0.8, distillers.contrastive_representation()),
        ... )

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, Sec. 3.
    """
    check_bank_settings(
        dim=dim,
        temperature=temperature,
        bank_momentum=bank_momentum,
        bank_dtype=bank_dtype,
        chunk_size=chunk_size,
    )
    sampler = choose_sampler(negatives, num_negatives)

    def make_heads(student, teacher):
        widths = student.embedding.shape[-1], teacher.embedding.shape[-1]
        return lambda rngs: _Embeddings(*widths, dim=dim, rngs=rngs)

    contrast = functools.partial(
        _contrast_side, temperature=temperature, chunk_size=chunk_size
    )

    def init(rngs, spec):
        method = "contrastive_representation"
        teacher = require_embeddings(spec, method)
        labels = contrast_classes(spec, method)
        count = count_negatives(labels, num_negatives)
        params, _ = init_heads(make_heads(spec.student, teacher), rngs)
        bank = memory.init_bank(rngs.params(), len(labels), dim, dtype=bank_dtype)
        return DistillerState(params, _initial_state(bank, labels, count))

    def loss(params, extra, student, teacher, batch):
        teacher = jax.lax.stop_gradient(teacher)
        heads = bind_heads(make_heads(student, teacher), params, {})
        embedded_s = heads.student(student.embedding)
        embedded_t = heads.teacher(teacher.embedding)
        numbers = rows_of(batch)
        labels, num_classes = classes_of_batch(
            batch, numbers, extra.row_labels, student.logits.shape[-1]
        )
        old = memory.read(extra.bank, numbers)
        chosen = sampler(
            batch.key,
            labels,
            extra.row_labels,
            num_negatives=num_negatives or extra.num_negatives,
            num_classes=num_classes,
        )
        dtype = embedded_s.dtype
        count = extra.num_negatives.astype(dtype)
        rows = jnp.asarray(len(extra.row_labels), dtype)
        z_s, z_t = extra.normalizer.astype(dtype)
        side_s, z_s = contrast(
            embedded_s, old.teacher, extra.bank.teacher, chosen, z_s, count, rows
        )
        side_t, z_t = contrast(
            embedded_t, old.student, extra.bank.student, chosen, z_t, count, rows
        )
        total = side_s + side_t
        # As in the holistic method, an example without a finite loss does not enter the
        # bank. Because the update waits for the loss, XLA writes a donated bank in
        # place.
        kept = jnp.where(jnp.isfinite(total), numbers, len(extra.bank.student))
        bank = memory.update(
            extra.bank, kept, embedded_s, embedded_t, momentum=bank_momentum
        )
        normalizer = jnp.stack([z_s, z_t]).astype(extra.normalizer.dtype)
        metrics = {
            "student": jnp.mean(side_s),
            "teacher": jnp.mean(side_t),
            **memory.bank_statistics(old, embedded_s, embedded_t),
        }
        return total, extra._replace(bank=bank, normalizer=normalizer), metrics

    return Distiller(init, loss)


def _initial_state(bank, labels, count) -> ContrastState:
    """Return the state before the first batch, which measures the normalizers."""
    dtype = _checks.as_float_array(bank.student[:0], "bank").dtype
    return ContrastState(
        bank,
        jnp.asarray(labels, jnp.int32),
        jnp.int32(count),
        normalizer=jnp.zeros((2,), dtype),
    )


def _contrast_side(
    anchors, old, table, chosen, normalizer, count, rows, *, temperature, chunk_size
):
    """Return one side's NCE loss of its anchors, and its normalizer."""
    attraction = jnp.sum(anchors * jax.lax.stop_gradient(old), axis=-1)
    attraction = attraction / temperature

    def measure():
        repulsion = memory.negative_log_sum_exp(
            jax.lax.stop_gradient(anchors),
            table,
            chosen,
            temperature=temperature,
            chunk_size=chunk_size,
        )
        both = jnp.logaddexp(jax.lax.stop_gradient(attraction), repulsion)
        return rows * jnp.mean(jnp.exp(both)) / (count + 1.0)

    normalizer = jax.lax.cond(normalizer > 0, lambda: normalizer, measure)
    noise = count / rows
    log_noise = jnp.log(noise + _EPSILON)
    offset = jnp.log(normalizer) + log_noise
    repulsion = memory.negative_softplus_sum(
        anchors,
        table,
        chosen,
        temperature=temperature,
        offset=offset,
        chunk_size=chunk_size,
    )
    loss = jax.nn.softplus(offset - attraction) + repulsion
    return loss + count * jnp.log1p(_EPSILON / noise), normalizer


class _Embeddings(nnx.Module):
    """A linear embedding of unit length for each network."""

    def __init__(
        self,
        student_features: int,
        teacher_features: int,
        *,
        dim: int,
        rngs: nnx.Rngs,
    ):
        self.student = Embedding(student_features, dim, rngs=rngs)
        self.teacher = Embedding(teacher_features, dim, rngs=rngs)
