import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from holistic_support import BATCH, CLASSES, LABELS, ROWS, batch_of, outputs
from reference import contrastive as reference

from jaxkd import distillers, memory
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Spec

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

K = 8
LISTED = np.random.default_rng(5).integers(0, ROWS, (BATCH, K))


def listed(key, labels, row_labels, *, num_negatives, num_classes):
    del key, row_labels, num_negatives, num_classes
    return memory.listed_negatives(labels, jnp.asarray(LISTED))


def start(dtype=np.float64, labels=LABELS, **settings):
    settings = {"negatives": listed, "num_negatives": K, "dim": 5} | settings
    method = distillers.contrastive_representation(bank_dtype=dtype, **settings)
    student, teacher, _ = outputs(dtype=dtype)
    params, extra = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, labels))
    return method, jax.tree.map(lambda x: x.astype(dtype), params), extra


def expected(params, extra, student, teacher, rows, constants=None):
    to_numpy = functools.partial(jax.tree.map, np.float64)
    return reference.sides(
        to_numpy(params),
        np.float64(student.embedding),
        np.float64(teacher.embedding),
        to_numpy(tuple(extra.bank)),
        rows,
        LISTED,
        0.07,
        constants,
    )


@pytest.mark.usefixtures("x64")
def test_both_sides_match_the_definition_with_the_normalizer_of_the_first_batch():
    method, params, extra = start()
    loss = jax.jit(method.loss)
    constants = None
    for seed in range(3):
        student, teacher, rows = outputs(seed)
        values, _, used = expected(params, extra, student, teacher, rows, constants)
        batch = batch_of(rows)
        total, extra, metrics = loss(params, extra, student, teacher, batch)
        np.testing.assert_allclose(total, sum(values), rtol=1e-10)
        np.testing.assert_allclose(metrics["student"], values[0].mean(), rtol=1e-10)
        constants = used if constants is None else constants
        np.testing.assert_allclose(extra.normalizer, constants, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_bank_moves_towards_the_new_embeddings_by_half():
    method, params, extra = start()
    student, teacher, rows = outputs()
    _, new, _ = jax.jit(method.loss)(params, extra, student, teacher, batch_of(rows))
    _, anchors, _ = expected(params, extra, student, teacher, rows)
    for before, after, anchor in zip(extra.bank, new.bank, anchors, strict=True):
        moved = 0.5 * np.asarray(before)[rows] + 0.5 * anchor
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        np.testing.assert_allclose(np.asarray(after)[rows], moved, rtol=1e-12)
        kept = np.delete(np.arange(ROWS), rows)
        np.testing.assert_array_equal(np.asarray(after)[kept], np.asarray(before)[kept])


@pytest.mark.usefixtures("x64")
def test_the_gradient_takes_normalizer_and_bank_as_constants():
    method, params, extra = start()
    student, teacher, rows = outputs()
    _, extra, _ = jax.jit(method.loss)(params, extra, student, teacher, batch_of(rows))
    constants = np.asarray(extra.normalizer)

    def total(params, features):
        moved = student._replace(embedding=features)
        return method.loss(params, extra, moved, teacher, batch_of(rows))[0].sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))(params, student.embedding)
    rng = np.random.default_rng(0)
    point = jax.tree.map(np.float64, (params, student.embedding))
    way = jax.tree.map(lambda x: rng.normal(size=x.shape), point)

    def along(step):
        heads, features = jax.tree.map(lambda x, w: x + step * w, point, way)
        moved = student._replace(embedding=features)
        return sum(
            value.sum()
            for value in expected(heads, extra, moved, teacher, rows, constants)[0]
        )

    slope = (along(1e-6) - along(-1e-6)) / 2e-6
    products = jax.tree.map(lambda g, w: np.sum(np.asarray(g) * w), gradient, way)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6)


@pytest.mark.parametrize("negatives", ["sampled", "shared", "all"])
def test_every_sampler_gives_a_finite_loss_and_moves_both_heads(negatives):
    method, params, extra = start(np.float32, negatives=negatives)
    student, teacher, rows = outputs(dtype=np.float32)

    def total(params):
        value, *_ = method.loss(params, extra, student, teacher, batch_of(rows))
        return value.mean(), value

    gradient, value = jax.jit(jax.grad(total, has_aux=True))(params)
    assert np.isfinite(value).all()
    assert all(np.any(g) for g in jax.tree.leaves(gradient))


def test_an_example_without_a_finite_loss_stays_out_of_the_bank():
    method, params, extra = start(np.float32)
    student, teacher, rows = outputs(dtype=np.float32)
    _, extra, _ = jax.jit(method.loss)(params, extra, student, teacher, batch_of(rows))
    broken = student._replace(embedding=student.embedding.at[2].set(jnp.nan))
    _, new, _ = jax.jit(method.loss)(params, extra, broken, teacher, batch_of(rows))
    before, after = (np.asarray(x.bank.student)[rows[2]] for x in (extra, new))
    np.testing.assert_array_equal(after, before)


def test_without_a_teacher_it_refuses_to_start():
    method, _, _ = start(np.float32)
    student, _, _ = outputs(dtype=np.float32)
    with pytest.raises(InvalidInputError, match="needs a teacher"):
        method.init(nnx.Rngs(0), Spec(student, None, CLASSES, LABELS))


def test_too_many_negatives_are_refused_with_what_there_is():
    with pytest.raises(InvalidInputError, match="ask for at most 30"):
        start(np.float32, num_negatives=31, negatives="sampled")
