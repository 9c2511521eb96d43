r"""T13. Symmetries and sums of the holistic encoder.

**Statement.**

1. Permuting a batch permutes its nearest-neighbor graph and its graph embeddings.
2. Adding a constant to a row of logits changes no neighbor.
3. An update sets the norm of every updated row of the memory bank to one, and changes
   no other row.
4. The four-term loss is the sum of its parts.
5. If the number of negatives is the number available, drawing them ("sampled",
   "shared") and using all of them ("all") give the same loss.

**Proof.** 1: cosine similarity, the mean over neighbors and the encoder's linear map
treat all examples alike. 2: the graph depends on the softmax only. 3: by construction.
4: the terms are added. 5: a sample of everything without replacement is everything, and
the weights K/N of "all" are one.

References:
    Zhou et al., `Distilling Holistic Knowledge with Graph Neural Networks
    <https://arxiv.org/abs/2108.05507>`_, 2021; statements ours.
"""

import functools
from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import distillers, graphs, heads, memory
from jaxkd.models import ModelOutput
from proofs_checks._evidence import (
    Check,
    Evidence,
    Settings,
    Tolerance,
    Worst,
    claim,
    control,
    difference_report,
    distance,
)

_TRIALS, _BATCH, _CLASSES, _DIM, _NEIGHBORS = 100, 32, 10, 16, 8
_ROWS, _LOSS_TRIALS = 200, 5
_GRAPH = Tolerance(float64=0.0, float32=0.0, bfloat16=0.0)
_EMBEDDING = Tolerance(float64=1e-13, float32=1e-5, bfloat16=1e-5)
_LOSS = Tolerance(float64=1e-12, float32=1e-5, bfloat16=1e-5)

_neighbors = jax.jit(functools.partial(graphs.nearest_neighbors, k=_NEIGHBORS))


def _encoder(settings: Settings) -> heads.GraphEncoder:
    encoder = heads.GraphEncoder(_DIM, rngs=nnx.Rngs(settings.seed))
    state = nnx.state(encoder)
    wide = jax.tree.map(lambda x: x.astype(settings.compute_dtype), state)
    nnx.update(encoder, wide)
    return encoder


@functools.cache
def _graph_deviations(settings: Settings) -> tuple[Worst, Worst, Worst, Worst]:
    """Measure how permutations and shifts of the logits change graph and embeddings.

    Returns:
        The deviations of the graph under permutations, of the embeddings under
        permutations, of the graph under shifts of a row, and of the graph under shifts
        of one class alone.
    """
    encoder = _encoder(settings)
    encode = jax.jit(lambda h, near: encoder(h, near))
    permuted, embedded, shifted, tilted = Worst(), Worst(), Worst(), Worst()
    for trial in range(_TRIALS):
        rng = np.random.default_rng((settings.seed, 13, trial))
        # On this grid of bfloat16 numbers a shift is exact in every dtype.
        logits = np.round(rng.normal(0, 3, (_BATCH, _CLASSES)) * 8) / 8
        features = rng.normal(size=(_BATCH, _DIM)).astype(settings.compute_dtype)
        near = np.asarray(_neighbors(settings.cast(logits)))

        def describe(_, trial=trial):
            return {"trial": trial}

        order = rng.permutation(_BATCH)
        place = order.argsort()
        after = np.asarray(_neighbors(settings.cast(logits[order])))
        permuted.add(_differing(after, place[near[order]]), describe)
        reordered = np.asarray(encode(features, near))[order]
        error = distance(encode(features[order], after), reordered)
        embedded.add(error.max(), describe)
        constant = rng.integers(-3, 4, (_BATCH, 1))
        after = np.asarray(_neighbors(settings.cast(logits + constant)))
        shifted.add(_differing(after, near), describe)
        uneven = logits.copy()
        uneven[:, 0] += constant[:, 0]
        after = np.asarray(_neighbors(settings.cast(uneven)))
        tilted.add(_differing(after, near), describe)
    return permuted, embedded, shifted, tilted


def _differing(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of examples whose sets of neighbors differ."""
    chex.assert_equal_shape((a, b))
    return float((np.sort(a, -1) != np.sort(b, -1)).any(-1).mean())


def _bank_deviations(settings: Settings) -> tuple[Worst, Worst, str]:
    """Measure the norms of the updated rows and the changes of the other rows.

    Returns:
        The deviations of the norms, the shares of other entries that changed, and a
        description of the first of these, if any.
    """
    norms, others, report = Worst(), Worst(), ""
    dtype = settings.compute_dtype
    for trial in range(_TRIALS):
        key = jax.random.fold_in(jax.random.key(settings.seed), trial)
        rng = np.random.default_rng((settings.seed, 13, 1, trial))
        bank = memory.init_bank(key, rows=_ROWS, dim=_DIM, dtype=dtype)
        rows = rng.choice(_ROWS, _BATCH, replace=False).astype(np.int32)
        new = rng.normal(size=(2, _BATCH, _DIM)).astype(dtype)
        after = memory.update(bank, rows, *new)
        rest = np.setdiff1d(np.arange(_ROWS), rows)
        kept = [
            jax.tree.map(lambda x, rest=rest: np.asarray(x)[rest], tables)
            for tables in (after, bank)
        ]
        report = report or difference_report(*kept)
        for table, after_rest, before_rest in zip(after, *kept, strict=True):
            lengths = np.linalg.norm(np.asarray(table, np.float64)[rows], axis=-1)
            error = distance(lengths, np.ones_like(lengths))
            norms.add(error.max(), lambda _, t=trial: {"trial": t})
            moved = after_rest != before_rest
            others.add(moved.mean(), lambda _, t=trial: {"trial": t})
    return norms, others, report


@functools.cache
def _method(bank_dtype: str, **options) -> distillers.Distiller:
    return distillers.holistic(
        dim=_DIM, neighbors=_NEIGHBORS, bank_dtype=bank_dtype, **options
    )


@functools.cache
def _compiled(method: distillers.Distiller):
    return jax.jit(method.loss)


@functools.cache
def _losses(settings: Settings, *, share: float = 1.0, **options) -> np.ndarray:
    """Compute the losses of the examples of a few batches, with classes of equal size.

    Args:
        settings: Settings of the certificate.
        share: Number of negatives, as a share of the number available.
        **options: Options of the distiller.

    Returns:
        The losses ``[batches, examples]``.
    """
    dtype = settings.compute_dtype
    method = _method(dtype.name, **options)
    labels = (np.arange(_ROWS) % _CLASSES).astype(np.int32)

    def outputs(rng):
        def network(width):
            return ModelOutput(
                jnp.asarray(settings.cast(rng.normal(0, 3, (_BATCH, _CLASSES)))),
                jnp.asarray(rng.normal(size=(_BATCH, width)), dtype),
            )

        return network(24), network(40)

    shapes = outputs(np.random.default_rng(0))
    spec = distillers.Spec(*shapes, num_classes=_CLASSES, labels=labels)
    params, extra = method.init(nnx.Rngs(settings.seed), spec)
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    count = jnp.int32(share * int(extra.num_negatives))
    extra = extra._replace(num_negatives=count)
    loss = _compiled(method)
    values = []
    for trial in range(_LOSS_TRIALS):
        rng = np.random.default_rng((settings.seed, 13, 2, trial))
        student, teacher = outputs(rng)
        rows = rng.choice(_ROWS, _BATCH, replace=False).astype(np.int32)
        batch = distillers.Batch(
            jnp.zeros((_BATCH, 1, 1, 1)),
            jnp.asarray(labels[rows]),
            jnp.asarray(rows),
            jax.random.key(trial),
        )
        value, extra, _ = loss(params, extra, student, teacher, batch)
        values.append(np.asarray(value, np.float64))
    return np.stack(values)


def _relative(a: np.ndarray, b: np.ndarray) -> Worst:
    worst = Worst()
    error = (distance(a, b) / np.abs(b)).max(-1)
    worst.add(error, lambda trial: {"trial": int(trial)})
    return worst


def claims(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence for the five parts of the statement."""
    permuted, embedded, shifted, _ = _graph_deviations(settings)
    unit = "share of examples whose neighbors differ"
    text = "permuting the batch permutes the graph"
    yield claim(text, permuted, _GRAPH, settings, unit=unit)
    text = "permuting the batch permutes the graph embeddings"
    yield claim(text, embedded, _EMBEDDING, settings, unit="largest error")
    text = "adding a constant to a row of logits changes no neighbor"
    yield claim(text, shifted, _GRAPH, settings, unit=unit)
    norms, others, moved = _bank_deviations(settings)
    text = "updated rows of the bank have norm 1"
    yield claim(text, norms, _EMBEDDING, settings, unit="|norm - 1|")
    text = "the other rows of the bank do not change"
    unit = "share of entries that changed"
    yield claim(text, others, _GRAPH, settings, unit=unit, detail=moved)

    everything = _losses(settings, negatives="all")
    parts = _losses(settings, negatives="all", graph_weight=0.0) + _losses(
        settings, negatives="all", embedding_weight=0.0
    )
    text = "plain terms + graph terms = the four-term loss"
    yield _equal(text, parts, everything, settings)
    for name in ("sampled", "shared"):
        text = f"with every negative available, {name} = all"
        yield _equal(text, _losses(settings, negatives=name), everything, settings)


def _equal(text: str, a: np.ndarray, b: np.ndarray, settings: Settings) -> Evidence:
    """Return evidence that the losses of two methods agree, or where they do not."""
    unit, bound = "relative error", _LOSS.of(settings)
    detail = difference_report({"loss": a}, {"loss": b}, rtol=bound)
    return claim(text, _relative(a, b), _LOSS, settings, unit=unit, detail=detail)


def controls(settings: Settings) -> Iterator[Evidence]:
    """Yield evidence that a shift of one class and fewer negatives fail."""
    *_, tilted = _graph_deviations(settings)
    unit = "share of examples whose neighbors differ"
    text = "adding constants to one class alone"
    yield control(text, tilted, 0.0, unit=unit)
    fewer = _losses(settings, share=0.25, negatives="sampled")
    everything = _losses(settings, share=0.25, negatives="all")
    text = "with a quarter of the negatives, sampled = all"
    yield control(text, _relative(fewer, everything), 1e-3, unit="relative error")


CHECK = Check(
    name="T13",
    title="Holistic encoder",
    statement="graph, bank and loss keep their symmetries and sums",
    assumptions=("no ties among similarities", "for part 5, classes of equal size"),
    claims=claims,
    controls=controls,
)
