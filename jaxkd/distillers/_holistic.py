"""Holistic distillation: individual and relational knowledge in one contrast."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Int

from jaxkd import _checks, graphs, losses, memory
from jaxkd._errors import InvalidInputError, unknown_name
from jaxkd._math import l2_normalize
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    Loss,
    Metrics,
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
from jaxkd.distillers._unlabeled import classes_of_batch, mean_of_labeled
from jaxkd.heads import HolisticHeads, bind_heads, init_heads

# Each hop adds a copy of the embeddings to the input of the encoders.
_MOST_HOPS = 64

_GRAPHS = {
    "predictions": lambda output, k: graphs.nearest_neighbors(output.logits, k=k),
    "embeddings": lambda output, k: graphs.most_similar(output.embedding, k=k),
}


class HolisticState(NamedTuple):
    """State of holistic distillation between steps.

    Attributes:
        bank: Latest embeddings of every training example.
        row_labels: Classes of the training examples; of one without a label, the
            number of classes plus its row number, which no other has.
        num_negatives: Number of negatives of each example.
    """

    bank: memory.Bank
    row_labels: Int[Array, " rows"]
    num_negatives: Int[Array, ""]


@method(
    "hkd",
    weights={"ce": 1.0, "hkd": 3.0},
    compares="embeddings and their graph against a bank",
    reads=("embedding",),
    losses=(losses.info_nce,),
    repdistiller="(the HKD extension)",
    unlabeled="negatives",
)
def holistic(
    *,
    neighbors: int = 8,
    hops: int = 1,
    dim: int = 128,
    temperature: float | int = 0.07,
    bank_momentum: float | int = 0.9,
    smoothing: float | int = 0.75,
    num_negatives: int | None = None,
    negatives: str | Callable[..., memory.Negatives] = "sampled",
    negatives_from: str = "own",
    graph_from: str = "predictions",
    embedding_weight: float | int = 1.0,
    graph_weight: float | int = 1.0,
    bank_dtype: DTypeLike = "float32",
    chunk_size: int | None = None,
) -> Distiller:
    r"""Contrast embeddings and graph encodings against a memory bank (HKD).

    Four contrastive terms (see :func:`jaxkd.losses.info_nce`) match both networks'
    embeddings :math:`h^s, h^t` and the outputs :math:`g^s, g^t` of one graph encoder
    each, over the batch's nearest neighbors by predictions, against a memory bank
    :math:`(M^s, M^t)` of earlier embeddings:

    .. math::
        \ell_i = w_h [c(h^s_i, M^t_i, M^s) + c(h^t_i, M^s_i, M^t)]
               + w_g [c(g^s_i, u^t_i, M^s) + c(g^t_i, u^s_i, M^t)], \qquad
        c(a, p, M) = -\log \frac{e^{a \cdot p/\tau}}
            {e^{a \cdot p/\tau} + \sum_{j \in S_i} w_{ij} e^{a \cdot M_j/\tau}},

    with :math:`u^t_i = (\sigma M^t_i + (1 - \sigma) g^t_i)/\lVert\cdot\rVert` and
    :math:`u^s` likewise. Positives, banks, graphs and the teacher's outputs are
    constants for the gradient; both networks' heads are trained. All terms read the
    bank before this step's embeddings enter it.

    An example without a label is a class of its own: all other examples may be its
    negatives, and it may be a negative of all others, also of those of its true class.

    Args:
        neighbors: Number of neighbors of an example, itself included. A smaller batch
            is connected completely.
        hops: Number of hops of the graph encoders, at most 64.
        dim: Width of the embeddings and of the bank.
        temperature: Divides the scores, :math:`\tau`.
        bank_momentum: Weight of the old row when an embedding enters the bank.
        smoothing: Weight :math:`\sigma` of the bank in the graph terms' positives.
        num_negatives: Number :math:`K` of negatives of each example. By default 16,384,
            or the largest number available to every class, if that is less.
        negatives: How to select rows of other classes: ``"sampled"``, ``K`` for each
            example, without replacement; ``"shared"``, ``K`` drawn for the whole batch;
            ``"all"``, each at weight ``K`` over their number; or any sampler like those
            of :mod:`jaxkd.memory`. The sum above has the same mean in all three.
        negatives_from: Whether an anchor's negatives come from its ``"own"``
            network's bank, as published, or from the other's (``"cross"``).
        graph_from: Which similarity defines neighbors: that of the networks'
            ``"predictions"``, as published, or that of their ``"embeddings"`` before
            the heads, by :func:`jaxkd.graphs.most_similar`.
        embedding_weight: Weight :math:`w_h` of the two plain terms.
        graph_weight: Weight :math:`w_g` of the two graph terms. Terms of weight zero
            are not computed.
        bank_dtype: Dtype of the bank; ``"bfloat16"`` halves its memory.
        chunk_size: Number of rows of the bank that are read at a time; see
            :func:`jaxkd.memory.negative_log_sum_exp`.

    Returns:
        A distiller. Its loss is in nats. Its metrics are the mean of each term, under
        ``student_embedding``, ``teacher_embedding``, ``student_graph`` and
        ``teacher_graph``; of the two graphs, if there are graph terms,
        ``neighbor_agreement`` (:func:`jaxkd.graphs.neighbor_agreement`) and
        ``student_purity`` and ``teacher_purity``
        (:func:`jaxkd.graphs.neighbor_purity`, over examples with a label, to which
        neighbors without one count as another class); and those of
        :func:`jaxkd.memory.bank_statistics`.

    Raises:
        TypeError: If a count is not an integer.
        ValueError: If a setting is out of range or unknown; from ``init``, if there is
            no teacher, only one class, or a class with fewer than ``num_negatives``
            examples of others.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     hkd=(3.0, distillers.holistic(negatives="all")),
        ... )

    References:
        Zhou et al., `Distilling Holistic Knowledge with Graph Neural Networks
        <https://arxiv.org/abs/2108.05507>`_, 2021.
    """
    _checks.check_at_least(1, neighbors=neighbors)
    _checks.check_count(_MOST_HOPS, hops=hops)
    check_bank_settings(
        dim=dim,
        temperature=temperature,
        bank_momentum=bank_momentum,
        bank_dtype=bank_dtype,
        chunk_size=chunk_size,
    )
    _checks.check_in_range(0.0, 1.0, smoothing=smoothing)
    _check_weights(embedding_weight=embedding_weight, graph_weight=graph_weight)
    if negatives_from not in ("own", "cross"):
        raise unknown_name("negatives_from", negatives_from, ("own", "cross"))
    if graph_from not in _GRAPHS:
        raise unknown_name("graph_from", graph_from, _GRAPHS)

    def make_heads(student, teacher):
        widths = student.embedding.shape[-1], teacher.embedding.shape[-1]
        return lambda rngs: HolisticHeads(*widths, dim=dim, hops=hops, rngs=rngs)

    def init(rngs, spec):
        teacher = require_embeddings(spec, "holistic")
        labels = contrast_classes(spec, "holistic")
        count = count_negatives(labels, num_negatives)
        params, _ = init_heads(make_heads(spec.student, teacher), rngs)
        bank = memory.init_bank(rngs.params(), len(labels), dim, dtype=bank_dtype)
        extra = HolisticState(bank, jnp.asarray(labels, jnp.int32), jnp.int32(count))
        return DistillerState(params, extra)

    loss = _make_loss(
        make_heads=make_heads,
        connect=functools.partial(_GRAPHS[graph_from], k=neighbors),
        sampler=choose_sampler(negatives, num_negatives),
        num_negatives=num_negatives,
        crossed=negatives_from == "cross",
        contrast=functools.partial(
            _contrast, temperature=temperature, chunk_size=chunk_size
        ),
        smooth=functools.partial(_smooth, smoothing=smoothing),
        bank_momentum=bank_momentum,
        embedding_weight=embedding_weight,
        graph_weight=graph_weight,
    )
    return Distiller(init, loss)


def _make_loss(
    *,
    make_heads,
    connect,
    sampler,
    num_negatives,
    crossed,
    contrast,
    smooth,
    bank_momentum,
    embedding_weight,
    graph_weight,
) -> Loss:
    """Build the loss from the settings and the functions that they select."""
    weight_of = {
        "student_embedding": embedding_weight,
        "teacher_embedding": embedding_weight,
        "student_graph": graph_weight,
        "teacher_graph": graph_weight,
    }

    def loss(params, extra, student, teacher, batch):
        teacher = jax.lax.stop_gradient(teacher)
        heads = bind_heads(make_heads(student, teacher), params, {})
        embedded_s = heads.student_embedding(student.embedding)
        embedded_t = heads.teacher_embedding(teacher.embedding)
        numbers = rows_of(batch)
        labels, num_classes = classes_of_batch(
            batch, numbers, extra.row_labels, student.logits.shape[-1]
        )
        old = memory.read(extra.bank, numbers)
        terms_s, terms_t = {}, {}
        metrics = memory.bank_statistics(old, embedded_s, embedded_t)
        if embedding_weight:
            terms_s["student_embedding"] = embedded_s, old.teacher
            terms_t["teacher_embedding"] = embedded_t, old.student
        if graph_weight:
            near_s, near_t = connect(student), connect(teacher)
            encoded_s = heads.student_encoder(embedded_s, near_s)
            encoded_t = heads.teacher_encoder(embedded_t, near_t)
            smooth_s, smooth_t = (
                smooth(old.student, encoded_s),
                smooth(old.teacher, encoded_t),
            )
            terms_s["student_graph"] = encoded_s, smooth_t
            terms_t["teacher_graph"] = encoded_t, smooth_s
            metrics |= _neighborhoods(near_s, near_t, labels, batch)

        chosen = sampler(
            batch.key,
            labels,
            extra.row_labels,
            num_negatives=num_negatives or extra.num_negatives,
            num_classes=num_classes,
        )
        table_s, table_t = extra.bank
        if crossed:
            table_s, table_t = table_t, table_s
        parts = contrast(terms_s, table_s, chosen) | contrast(terms_t, table_t, chosen)
        metrics |= {name: jnp.mean(part) for name, part in parts.items()}
        weighted = [weight_of[name] * part for name, part in parts.items()]
        total = jnp.sum(jnp.stack(weighted), axis=0)
        # An example without a finite loss does not enter the bank. Because the update
        # waits for the loss, XLA can also write the donated bank in place.
        rows = jnp.where(jnp.isfinite(total), numbers, len(extra.bank.student))
        bank = memory.update(
            extra.bank, rows, embedded_s, embedded_t, momentum=bank_momentum
        )
        return total, extra._replace(bank=bank), metrics

    return loss


def _contrast(terms, table, chosen, *, temperature, chunk_size):
    """Compute InfoNCE of ``{name: (anchor, positive)}``, all against one bank."""
    anchors = jnp.stack([anchor for anchor, _ in terms.values()])
    positives = jnp.stack([positive for _, positive in terms.values()])
    positives = jax.lax.stop_gradient(positives).astype(anchors.dtype)
    attraction = jnp.sum(anchors * positives, axis=-1) / temperature
    repulsion = memory.negative_log_sum_exp(
        anchors, table, chosen, temperature=temperature, chunk_size=chunk_size
    )
    # -log(e^p / (e^p + e^n)), computed in logarithms.
    return dict(zip(terms, jax.nn.softplus(repulsion - attraction), strict=True))


def _smooth(old, encoded, *, smoothing):
    """Mix the bank's rows with the encoded ones, at unit length."""
    return l2_normalize(smoothing * old + (1 - smoothing) * encoded)


def _neighborhoods(near_s, near_t, labels, batch) -> Metrics:
    """Compare the graphs of the networks with each other and with the labels."""
    agreement = graphs.neighbor_agreement(near_s, near_t)
    purity_s, purity_t = (
        graphs.neighbor_purity(near, labels) for near in (near_s, near_t)
    )
    return {
        "neighbor_agreement": jnp.mean(agreement),
        "student_purity": mean_of_labeled(purity_s, batch),
        "teacher_purity": mean_of_labeled(purity_t, batch),
    }


def _check_weights(**weights: float | int) -> None:
    _checks.check_finite_not_negative(**weights)
    if not any(weights.values()):
        raise InvalidInputError(
            f"{' and '.join(weights)} are both 0, so nothing would be trained; give "
            "one a positive value",
            argument=next(iter(weights)),
        )
