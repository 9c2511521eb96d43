"""A small problem for holistic distillation, shared by its tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import distillers
from jaxkd.distillers import Batch, Spec
from jaxkd.models import ModelOutput

ROWS, BATCH, CLASSES, DIM = 40, 6, 4, 5
WIDTHS = {"student": 7, "teacher": 3}
NAMES = ("student_embedding", "teacher_embedding", "student_graph", "teacher_graph")
LABELS = (np.arange(ROWS) % CLASSES).astype(np.int32)


def outputs(seed=0, batch=BATCH, dtype=np.float64):
    """(student, teacher, rows) of a random batch."""
    rng = np.random.default_rng(seed)
    student, teacher = (
        ModelOutput(
            *(jnp.asarray(rng.normal(size=(batch, n)), dtype) for n in (CLASSES, width))
        )
        for width in WIDTHS.values()
    )
    return student, teacher, rng.choice(ROWS, batch, replace=False).astype(np.int32)


def batch_of(rows, labels=LABELS, seed=0):
    images = jnp.zeros((len(rows), 1, 1, 1))
    rows = jnp.asarray(rows)
    return Batch(images, jnp.asarray(labels)[rows], rows, jax.random.key(seed))


@functools.cache
def build(**settings):
    """A distiller; the same one for the same settings, to compile it once."""
    return distillers.holistic(**settings)


def start(labels=LABELS, dtype=np.float64, **settings):
    """A distiller and its state, in the wanted precision; all negatives by default."""
    defaults = {"dim": DIM, "neighbors": 3, "bank_dtype": dtype, "negatives": "all"}
    method = build(**defaults | settings)
    student, teacher, _ = outputs(dtype=dtype)
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, labels))
    params = jax.tree.map(lambda x: x.astype(dtype), state.params)
    return method, params, state.extra


@functools.cache
def loss_of(method):
    """The compiled loss."""
    return jax.jit(method.loss)
