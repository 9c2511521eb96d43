import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from holistic_support import (
    BATCH,
    CLASSES,
    LABELS,
    NAMES,
    ROWS,
    batch_of,
    loss_of,
    outputs,
    start,
)
from reference import holistic as reference

from jaxkd import losses, memory
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


def expected_terms(params, extra, student, teacher, rows, weights, **settings):
    """The four terms, the updated bank and a function of heads, by definition."""
    settings = {"temperature": 0.07, "smoothing": 0.75, "k": 3, "hops": 1} | settings
    to_numpy = functools.partial(jax.tree.map, np.float64)
    bank = to_numpy(tuple(extra.bank))
    sides = tuple(
        (to_numpy(x.logits), to_numpy(x.embedding)) for x in (student, teacher)
    )
    k, hops = min(settings["k"], len(rows)), settings["hops"]
    graph_from = settings.get("graph_from", "predictions")
    base = reference.forward(to_numpy(params), *sides, k, hops, graph_from)
    meets = reference.positives(base, bank, rows, settings["smoothing"])

    def terms(heads, features):
        sided = (sides[0][0], features), sides[1]
        moved = reference.forward(heads, *sided, k, hops, graph_from)
        return reference.terms(
            moved,
            meets,
            bank,
            weights,
            settings["temperature"],
            settings.get("negatives_from", "own"),
        )

    updated = reference.update(bank, rows, base, 0.9)
    return terms(to_numpy(params), sides[0][1]), updated, terms


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hops": 2, "temperature": 0.5, "smoothing": 0.3, "negatives_from": "cross"},
        {"graph_from": "embeddings", "neighbors": 8},
        *(
            pytest.param(settings, marks=pytest.mark.slow)
            for settings in [
                {"hops": 2, "temperature": 0.5, "smoothing": 0.3},
                {"negatives_from": "cross"},
                {"graph_from": "embeddings"},
                {"neighbors": 8},
            ]
        ),
    ],
)
def test_the_loss_and_its_parts_match_the_definition(settings):
    method, params, extra = start(num_negatives=9, **settings)
    student, teacher, rows = outputs()
    total, new, metrics = loss_of(method)(
        params, extra, student, teacher, batch_of(rows)
    )

    weights = reference.all_weights(LABELS[rows], LABELS, 9)
    settings = {**settings, "k": settings.get("neighbors", 3)}
    terms, bank, _ = expected_terms(
        params, extra, student, teacher, rows, weights, **settings
    )
    np.testing.assert_allclose(total, sum(terms.values()), rtol=1e-10)
    for name in NAMES:
        np.testing.assert_allclose(metrics[name], terms[name].mean(), rtol=1e-10)
    for table, expected in zip(new.bank, bank, strict=True):
        np.testing.assert_allclose(table, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_the_gradient_is_that_of_the_definition_with_constant_positives():
    method, params, extra = start()
    student, teacher, rows = outputs()
    count = int(extra.num_negatives)
    weights = reference.all_weights(LABELS[rows], LABELS, count)
    *_, terms = expected_terms(params, extra, student, teacher, rows, weights)

    def total(params, features):
        moved = student._replace(embedding=features)
        return loss_of(method)(params, extra, moved, teacher, batch_of(rows))[0].sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))(params, student.embedding)
    point = jax.tree.map(np.float64, (params, student.embedding))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        way = jax.tree.map(lambda x, rng=rng: rng.normal(size=x.shape), point)

        def along(step, way=way):
            moved = jax.tree.map(lambda x, w: x + step * w, point, way)
            return sum(part.sum() for part in terms(*moved).values())

        h = 1e-6
        slope = (along(h) - along(-h)) / (2 * h)
        products = jax.tree.map(lambda g, w: np.sum(np.asarray(g) * w), gradient, way)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("negatives", ["sampled", "shared", "listed"])
def test_every_sampler_matches_infonce_over_gathered_rows(negatives):
    # The published form: gather [batch, K, dim] rows, then losses.info_nce.
    listed = np.random.default_rng(5).integers(0, ROWS, (BATCH, 8))
    samplers = {
        "sampled": memory.sampled_negatives,
        "shared": memory.shared_negatives,
        "listed": lambda key, labels, row_labels, *, num_negatives, num_classes: (
            memory.listed_negatives(labels, jnp.asarray(listed))
        ),
    }
    method, params, extra = start(negatives=samplers[negatives], num_negatives=8)
    student, teacher, rows = outputs()
    batch = batch_of(rows)
    _, _, metrics = loss_of(method)(params, extra, student, teacher, batch)

    draw = functools.partial(samplers[negatives], num_negatives=8, num_classes=CLASSES)
    chosen = jax.jit(draw)(batch.key, batch.labels, jnp.asarray(LABELS))
    candidates = np.arange(ROWS) if chosen.rows is None else np.asarray(chosen.rows)
    embedded = reference.embed(
        jax.tree.map(np.float64, params)["student_embedding"]["linear"],
        np.float64(student.embedding),
    )
    table, other = np.asarray(extra.bank.student), np.asarray(extra.bank.teacher)
    info_nce, values = jax.jit(losses.info_nce), []
    for i, row in enumerate(rows):
        own = candidates[np.asarray(chosen.mask())[:, i]]
        values.append(
            info_nce(
                jnp.asarray(embedded[i] @ other[row]),
                jnp.asarray(table[own] @ embedded[i]),
                temperature=0.07,
                log_weight=chosen.log_weight[i],
            )
        )
    np.testing.assert_allclose(metrics["student_embedding"], np.mean(values), rtol=1e-6)


def test_drawing_every_row_there_is_equals_all():
    student, teacher, rows = outputs(dtype=np.float32)
    results = {}
    for negatives in ("all", "sampled", "shared"):
        method, params, extra = start(dtype=np.float32, negatives=negatives)
        assert extra.num_negatives == 30  # by default K = N₋, if that is below 16,384
        result = loss_of(method)(params, extra, student, teacher, batch_of(rows))
        results[negatives] = jax.tree.leaves(result)
    for every, sampled, shared in zip(*results.values(), strict=True):
        np.testing.assert_array_equal(sampled, every)
        # The same rows at the same weights, in another order.
        np.testing.assert_allclose(shared, every, rtol=1e-6)


@pytest.mark.parametrize("negatives", ["sampled", "shared"])
def test_the_mean_over_draws_inside_the_logarithm_is_that_of_all(negatives):
    # e^(loss) - 1 is linear in the sum over the negatives, and unbiased with it.
    student, teacher, rows = outputs(dtype=np.float32)
    settings = {
        "dtype": np.float32,
        "num_negatives": 6,
        "temperature": 1.0,
        "graph_weight": 0,
    }

    def sums(method, params, extra, key):
        batch = batch_of(rows)._replace(key=key)
        *_, metrics = loss_of(method)(params, extra, student, teacher, batch)
        return jnp.stack([metrics["student_embedding"], metrics["teacher_embedding"]])

    # One example, so that the metrics are values, not means of logarithms.
    student, teacher = (
        ModelOutput(x.logits[:1], x.embedding[:1]) for x in (student, teacher)
    )
    rows = rows[:1]
    draw = functools.partial(sums, *start(negatives=negatives, **settings))
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = np.expm1(np.float64(jax.jit(jax.vmap(draw))(keys)))
    exact = np.expm1(np.float64(sums(*start(**settings), keys[0])))
    error = drawn.std(axis=0) / np.sqrt(len(keys))
    assert np.all(drawn.std(axis=0) > 0)
    assert np.all(np.abs(drawn.mean(axis=0) - exact) < 5 * error)


def test_permuting_the_batch_permutes_the_losses_and_leaves_the_bank():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)
    order = np.random.default_rng(3).permutation(BATCH)
    loss, new, metrics = loss_of(method)(
        params, extra, student, teacher, batch_of(rows)
    )
    shuffled = jax.tree.map(lambda x: x[order], (student, teacher))
    other, bank, same = loss_of(method)(params, extra, *shuffled, batch_of(rows[order]))
    np.testing.assert_allclose(other, loss[order], rtol=1e-5)
    for one, two in zip(new.bank, bank.bank, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)
    for name, value in metrics.items():
        np.testing.assert_allclose(same[name], value, rtol=1e-5)


def test_a_constant_added_to_logits_changes_nothing():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)
    results = []
    for shift in (0.0, 512.0):
        moved = [
            x._replace(logits=jnp.round(x.logits * 64) / 64 + shift)
            for x in (student, teacher)
        ]
        results.append(loss_of(method)(params, extra, *moved, batch_of(rows)))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("weights", "absent"),
    [((1.0, 0.0), "graph"), ((0, 2), "_embedding"), ((0.5, 3.0), None)],
)
def test_the_loss_is_the_weighted_sum_of_its_parts(weights, absent):
    student, teacher, rows = outputs(dtype=np.float32)
    plain, params, extra = start(dtype=np.float32)
    method, *_ = start(
        dtype=np.float32, embedding_weight=weights[0], graph_weight=weights[1]
    )
    *_, parts = loss_of(plain)(params, extra, student, teacher, batch_of(rows))
    loss, new, metrics = loss_of(method)(
        params, extra, student, teacher, batch_of(rows)
    )
    expected = sum(
        float(weight) * parts[name]
        for name, weight in zip(NAMES, np.tile(weights, (2, 1)).T.ravel(), strict=True)
    )
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)
    assert not any(absent and absent in name for name in metrics)
    assert np.any(new.bank.student != extra.bank.student)


def test_no_gradient_reaches_the_teacher_the_logits_or_the_bank():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)

    def total(bank, logits, teacher):
        moved = student._replace(logits=logits)
        state = extra._replace(bank=bank)
        return loss_of(method)(params, state, moved, teacher, batch_of(rows))[0].sum()

    of_constants = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    grads = of_constants(extra.bank, student.logits, teacher)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, 0.0)


def test_an_optimizer_step_lowers_the_loss():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)

    @jax.jit
    def total(params):
        loss, *_ = loss_of(method)(params, extra, student, teacher, batch_of(rows))
        return loss.mean()

    before, grads = jax.jit(jax.value_and_grad(total))(params)
    after = total(jax.tree.map(lambda p, g: p - 0.01 * g, params, grads))
    assert after < before
