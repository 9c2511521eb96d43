import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import holistic as reference

from jaxkd import distillers, losses, memory
from jaxkd._errors import InvalidInputError
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


def start(labels=LABELS, dtype=np.float64, **settings):
    """A distiller and its state, in the wanted precision."""
    settings = {"dim": DIM, "neighbors": 3, "bank_dtype": dtype} | settings
    method = distillers.holistic(**settings)
    student, teacher, _ = outputs(dtype=dtype)
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, labels))
    params = jax.tree.map(lambda x: x.astype(dtype), state.params)
    return method, params, state.extra


@functools.cache
def loss_of(method):
    """The compiled loss."""
    return jax.jit(method.loss)


def expected_terms(params, extra, student, teacher, rows, weights, **settings):
    """The four terms, the updated bank and a function of heads, by definition."""
    settings = {"temperature": 0.07, "smoothing": 0.75, "k": 3, "hops": 1} | settings
    to_numpy = functools.partial(jax.tree.map, np.float64)
    bank = to_numpy(tuple(extra.bank))
    sides = tuple(
        (to_numpy(x.logits), to_numpy(x.embedding)) for x in (student, teacher)
    )
    k, hops = min(settings["k"], len(rows)), settings["hops"]
    base = reference.forward(to_numpy(params), *sides, k, hops)
    meets = reference.positives(base, bank, rows, settings["smoothing"])

    def terms(heads, features):
        sided = (sides[0][0], features), sides[1]
        moved = reference.forward(heads, *sided, k, hops)
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
        {"hops": 2, "temperature": 0.5, "smoothing": 0.3},
        {"negatives_from": "cross"},
        {"neighbors": 8},
    ],
)
def test_the_loss_and_its_parts_match_the_definition(settings):
    method, params, extra = start(negatives="all", num_negatives=9, **settings)
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
    method, params, extra = start(negatives="all")
    student, teacher, rows = outputs()
    count = int(extra.num_negatives)
    weights = reference.all_weights(LABELS[rows], LABELS, count)
    *_, terms = expected_terms(params, extra, student, teacher, rows, weights)

    def total(params, features):
        moved = student._replace(embedding=features)
        return loss_of(method)(params, extra, moved, teacher, batch_of(rows))[0].sum()

    gradient = jax.grad(total, argnums=(0, 1))(params, student.embedding)
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

    chosen = samplers[negatives](
        batch.key,
        batch.labels,
        jnp.asarray(LABELS),
        num_negatives=8,
        num_classes=CLASSES,
    )
    candidates = np.arange(ROWS) if chosen.rows is None else np.asarray(chosen.rows)
    embedded = reference.embed(
        jax.tree.map(np.float64, params)["student_embedding"]["linear"],
        np.float64(student.embedding),
    )
    table, other = np.asarray(extra.bank.student), np.asarray(extra.bank.teacher)
    values = []
    for i, row in enumerate(rows):
        own = candidates[np.asarray(chosen.mask())[:, i]]
        values.append(
            losses.info_nce(
                jnp.asarray(embedded[i] @ other[row]),
                jnp.asarray(table[own] @ embedded[i]),
                temperature=0.07,
                log_weight=chosen.log_weight[i],
            )
        )
    np.testing.assert_allclose(metrics["student_embedding"], np.mean(values), rtol=1e-6)


def test_sampling_all_rows_of_other_classes_equals_all():
    student, teacher, rows = outputs(dtype=np.float32)
    results = []
    for negatives in ("sampled", "all"):
        method, params, extra = start(dtype=np.float32, negatives=negatives)
        assert extra.num_negatives == 30  # K = N₋ by default
        results.append(loss_of(method)(params, extra, student, teacher, batch_of(rows)))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(one, other)


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
    exact = np.expm1(np.float64(sums(*start(negatives="all", **settings), keys[0])))
    error = drawn.std(axis=0) / np.sqrt(len(keys))
    assert np.all(drawn.std(axis=0) > 0)
    assert np.all(np.abs(drawn.mean(axis=0) - exact) < 5 * error)


def test_permuting_the_batch_permutes_the_losses_and_leaves_the_bank():
    method, params, extra = start(dtype=np.float32, negatives="all")
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


def test_updated_rows_have_length_one_and_the_others_stay():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)
    _, new, _ = loss_of(method)(params, extra, student, teacher, batch_of(rows))
    others = np.setdiff1d(np.arange(ROWS), rows)
    for before, after in zip(extra.bank, new.bank, strict=True):
        np.testing.assert_allclose(np.linalg.norm(after[rows], axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(after[others], before[others])


def test_an_example_without_a_finite_loss_stays_out_of_the_bank():
    method, params, extra = start(dtype=np.float32, graph_weight=0)
    student, teacher, rows = outputs(dtype=np.float32)
    broken = student._replace(embedding=student.embedding.at[2, 0].set(jnp.inf))
    _, new, _ = loss_of(method)(params, extra, broken, teacher, batch_of(rows))
    for before, after in zip(extra.bank, new.bank, strict=True):
        assert np.isfinite(after).all()
        np.testing.assert_array_equal(after[rows[2]], before[rows[2]])
        assert np.any(after[rows[3]] != before[rows[3]])


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


def test_a_weight_of_zero_leaves_the_graph_out_of_the_program():
    student, teacher, rows = outputs(dtype=np.float32)
    method, params, extra = start(dtype=np.float32, graph_weight=0)
    program = str(
        jax.make_jaxpr(method.loss)(params, extra, student, teacher, batch_of(rows))
    )
    assert "top_k" not in program


@pytest.mark.parametrize("size", [1, 2])
def test_batches_smaller_than_the_neighborhood_train_everything(size):
    method, params, extra = start(dtype=np.float32, neighbors=8)
    student, teacher, rows = outputs(batch=size, dtype=np.float32)

    def total(params):
        loss, new, _ = loss_of(method)(params, extra, student, teacher, batch_of(rows))
        return loss.mean(), new

    (loss, new), grads = jax.value_and_grad(total, has_aux=True)(params)
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.any(leaf != 0)
    assert np.all(new.bank.student[rows] != extra.bank.student[rows])


def test_no_gradient_reaches_the_teacher_the_logits_or_the_bank():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)

    def total(bank, logits, teacher):
        moved = student._replace(logits=logits)
        state = extra._replace(bank=bank)
        return loss_of(method)(params, state, moved, teacher, batch_of(rows))[0].sum()

    grads = jax.grad(total, argnums=(0, 1, 2))(extra.bank, student.logits, teacher)
    for leaf in jax.tree.leaves(grads):
        np.testing.assert_array_equal(leaf, 0.0)


@pytest.mark.parametrize("negatives", ["all", "shared", "sampled"])
def test_eager_and_jit_agree_and_tracing_happens_once(negatives):
    method, params, extra = start(dtype=np.float32, negatives=negatives, chunk_size=16)
    student, teacher, rows = outputs(dtype=np.float32)
    traces = []

    @jax.jit
    def compiled(*args):
        traces.append(1)
        return method.loss(*args)

    eager = method.loss(params, extra, student, teacher, batch_of(rows))
    once = compiled(params, extra, student, teacher, batch_of(rows))
    compiled(params, once[1], student, teacher, batch_of(rows, seed=1))
    assert len(traces) == 1
    for one, other in zip(*map(jax.tree.leaves, (eager, once)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_several_trials_are_one_vmapped_call():
    student, teacher, rows = outputs(dtype=np.float32)
    method, params, extra = start(dtype=np.float32)
    params = jax.tree.map(lambda x: jnp.stack([x, 2 * x + 0.1]), params)
    bank = jax.tree.map(lambda x: jnp.stack([x, -x]), extra.bank)
    batch = batch_of(rows)

    def one(params, bank):
        state = extra._replace(bank=bank)
        loss, new, _ = loss_of(method)(params, state, student, teacher, batch)
        return loss, new.bank

    both = jax.vmap(one)(params, bank)
    for i in range(2):
        single = one(*jax.tree.map(lambda x, i=i: x[i], (params, bank)))
        for a, b in zip(*map(jax.tree.leaves, (both, single)), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


def test_the_donated_bank_is_updated_in_place():
    labels = (np.arange(4096) % CLASSES).astype(np.int32)
    method, params, extra = start(labels, dtype=np.float32, chunk_size=256)
    student, teacher, rows = outputs(dtype=np.float32)

    def step(params, extra, student):
        def objective(params, embedding):
            moved = student._replace(embedding=embedding)
            batch = batch_of(rows, labels)
            loss, new, _ = loss_of(method)(params, extra, moved, teacher, batch)
            return loss.mean(), new

        grad = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
        return grad(params, student.embedding)

    compiled = (
        jax.jit(step, donate_argnames="extra").lower(params, extra, student).compile()
    )
    banks = f"f32[4096,{DIM}]"
    copies = [
        line
        for line in compiled.as_text().splitlines()
        if " copy(" in line and banks in line
    ]
    assert copies == []
    analysis = compiled.memory_analysis()
    assert analysis.alias_size_in_bytes >= sum(x.nbytes for x in extra.bank)


def test_a_bfloat16_bank_stays_bfloat16_and_changes_the_loss_little():
    student, teacher, rows = outputs(dtype=np.float32)
    wide, params, extra = start(dtype=np.float32, negatives="all")
    half, *_ = start(dtype=np.float32, negatives="all", bank_dtype="bfloat16")
    rounded = extra._replace(
        bank=jax.tree.map(lambda x: x.astype(jnp.bfloat16), extra.bank)
    )
    expected, *_ = loss_of(wide)(params, extra, student, teacher, batch_of(rows))
    actual, new, _ = loss_of(half)(params, rounded, student, teacher, batch_of(rows))
    assert new.bank.student.dtype == jnp.bfloat16
    assert actual.dtype == jnp.float32
    # Rows move by 2⁻⁹ of themselves, scores by that over the temperature.
    np.testing.assert_allclose(actual, expected, atol=4 * 2 * 2**-9 / 0.07)


def test_bfloat16_outputs_give_a_float32_loss():
    method, params, extra = start(dtype=np.float32)
    student, teacher, rows = outputs(dtype=np.float32)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (student, teacher))
    loss, new, _ = loss_of(method)(params, extra, *half, batch_of(rows))
    assert loss.dtype == new.bank.student.dtype == jnp.float32
    assert np.isfinite(loss).all()


def test_identical_examples_and_zero_features_have_finite_gradients():
    method, params, extra = start(dtype=np.float32)
    params = jax.tree.map(jnp.zeros_like, params)  # all embeddings are zero vectors
    student, teacher, rows = outputs(dtype=np.float32)
    same = jax.tree.map(jnp.zeros_like, (student, teacher))

    def total(params):
        return loss_of(method)(params, extra, *same, batch_of(rows))[0].sum()

    value, grads = jax.value_and_grad(total)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("negatives", ["all", "shared", "sampled"])
def test_rare_classes_train_and_set_the_default_number_of_negatives(negatives):
    labels = np.zeros(ROWS, np.int32)
    labels[[3, 17, 29]] = [1, 2, 2]
    method, params, extra = start(labels, dtype=np.float32, negatives=negatives)
    assert extra.num_negatives == 3
    student, teacher, _ = outputs(dtype=np.float32)
    rows = np.array([3, 17, 0, 1, 2, 29], np.int32)
    loss, *_ = loss_of(method)(params, extra, student, teacher, batch_of(rows, labels))
    assert np.isfinite(loss).all()


def test_an_optimizer_step_lowers_the_loss():
    method, params, extra = start(dtype=np.float32, negatives="all")
    student, teacher, rows = outputs(dtype=np.float32)

    @jax.jit
    def total(params):
        return loss_of(method)(params, extra, student, teacher, batch_of(rows))[
            0
        ].mean()

    before, grads = jax.value_and_grad(total)(params)
    after = total(jax.tree.map(lambda p, g: p - 0.01 * g, params, grads))
    assert after < before


def test_the_state_is_arrays_only():
    _, params, extra = start(dtype=np.float32)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves((params, extra)))
    assert set(params) == {
        "student_embedding",
        "teacher_embedding",
        "student_encoder",
        "teacher_encoder",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"temperature": float("inf")}, "temperature must be finite"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"hops": 0}, "hops must be at least 1, got 0"),
        ({"neighbors": 0}, "neighbors must be at least 1, got 0"),
        ({"num_negatives": 0}, "num_negatives must be at least 1, got 0"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"bank_momentum": 1.5}, r"bank_momentum must lie in \[0, 1\], got 1.5"),
        ({"smoothing": -0.1}, r"smoothing must lie in \[0, 1\]"),
        ({"negatives": "sample"}, "unknown negatives 'sample'; did you mean 'sampled'"),
        ({"negatives_from": "owm"}, "unknown negatives_from 'owm'; did you mean 'own'"),
        (
            {"embedding_weight": -1.0},
            "embedding_weight must be finite and not negative",
        ),
        ({"graph_weight": float("nan")}, "graph_weight must be finite"),
        ({"embedding_weight": 0, "graph_weight": 0}, "nothing is left to train"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        distillers.holistic(**settings)


def test_a_bank_of_integers_is_refused():
    with pytest.raises(TypeError, match="bank_dtype must be floating point"):
        distillers.holistic(bank_dtype="int8")


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (np.zeros(ROWS, int), {}, "all 40 training labels are 0"),
        (
            np.repeat([0, 1], [35, 5]),
            {"num_negatives": 6},
            "class 0 holds 35 of the 40 training examples, which leaves 5",
        ),
        (np.arange(ROWS), {}, "tells 4 classes apart"),
    ],
)
def test_labels_that_cannot_be_contrasted_are_refused(labels, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        start(labels, dtype=np.float32, **settings)


def test_a_teacher_is_needed():
    student, *_ = outputs(dtype=np.float32)
    with pytest.raises(InvalidInputError, match="holistic needs a teacher"):
        distillers.holistic().init(nnx.Rngs(0), Spec(student, None, CLASSES, LABELS))
