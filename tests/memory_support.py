"""A small bank and its negatives, shared by the tests of the fused passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from reference import holistic as reference

from jaxkd import memory

ROWS, DIM, BATCH, CLASSES = 23, 5, 4, 4
SAMPLERS = {
    "all": memory.all_negatives,
    "shared": functools.partial(memory.shared_negatives, num_rows=13),
    "sampled": memory.sampled_negatives,
}


def problem(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    anchors = reference.normalize(rng.normal(size=(2, BATCH, DIM))).astype(dtype)
    table = reference.normalize(rng.normal(size=(ROWS, DIM))).astype(dtype)
    row_labels = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    return anchors, table, row_labels[[0, 1, 2, 2]], row_labels


def choose(name, labels, row_labels, seed=0):
    if name == "listed":
        rows = np.random.default_rng(seed).integers(0, ROWS, (len(labels), 6))
        return memory.listed_negatives(jnp.asarray(labels), jnp.asarray(rows))
    return SAMPLERS[name](
        jax.random.key(seed),
        jnp.asarray(labels),
        jnp.asarray(row_labels),
        num_negatives=8,
        num_classes=CLASSES,
    )


def weights(negatives):
    """[batch, rows], in NumPy."""
    weight = np.where(negatives.mask(), np.exp(np.float64(negatives.log_weight)), 0).T
    if negatives.rows is None:
        return weight
    dense = np.zeros((len(weight), ROWS))
    np.add.at(dense, (slice(None), np.asarray(negatives.rows)), weight)
    return dense
