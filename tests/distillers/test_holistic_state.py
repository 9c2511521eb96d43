import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from holistic_support import (
    CLASSES,
    DIM,
    LABELS,
    ROWS,
    batch_of,
    loss_of,
    outputs,
    start,
)

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Spec

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def optimized(quickly_compiled):
    """Let XLA optimize what the test compiles."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


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


def test_a_weight_of_zero_leaves_the_graph_out_of_the_program():
    student, teacher, rows = outputs(dtype=np.float32)
    method, params, extra = start(dtype=np.float32, graph_weight=0)
    program = str(
        jax.make_jaxpr(method.loss)(params, extra, student, teacher, batch_of(rows))
    )
    assert "top_k" not in program


@functools.cache
def gradient_of(method):
    """The compiled mean loss and new state, with the gradient by the parameters."""

    def total(params, extra, student, teacher, batch):
        loss, new, _ = method.loss(params, extra, student, teacher, batch)
        return loss.mean(), new

    return jax.jit(jax.value_and_grad(total, has_aux=True))


@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_smaller_than_the_neighborhood_train_everything(size):
    method, params, extra = start(dtype=np.float32, neighbors=8)
    student, teacher, rows = outputs(batch=size, dtype=np.float32)

    (loss, new), grads = gradient_of(method)(
        params, extra, student, teacher, batch_of(rows)
    )
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.any(leaf != 0)
    assert np.all(new.bank.student[rows] != extra.bank.student[rows])


def sampled():
    return start(dtype=np.float32, negatives="sampled", chunk_size=16)


def test_the_state_and_another_batch_cause_no_second_trace():
    method, params, extra = sampled()
    student, teacher, rows = outputs(dtype=np.float32)
    traces = []

    @jax.jit
    def compiled(*args):
        traces.append(1)
        return method.loss(*args)

    _, new, _ = compiled(params, extra, student, teacher, batch_of(rows))
    compiled(params, new, student, teacher, batch_of(rows, seed=1))
    assert len(traces) == 1


@pytest.mark.slow
def test_eager_and_jit_agree():
    method, params, extra = sampled()
    student, teacher, rows = outputs(dtype=np.float32)
    eager = method.loss(params, extra, student, teacher, batch_of(rows))
    once = loss_of(method)(params, extra, student, teacher, batch_of(rows))
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

    both = jax.jit(jax.vmap(one))(params, bank)
    for i in range(2):
        single = one(*jax.tree.map(lambda x, i=i: x[i], (params, bank)))
        for a, b in zip(*map(jax.tree.leaves, (both, single)), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("optimized")
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
    wide, params, extra = start(dtype=np.float32)
    half, *_ = start(dtype=np.float32, bank_dtype="bfloat16")
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

    (value, _), grads = gradient_of(method)(params, extra, *same, batch_of(rows))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "negatives", ["all", "sampled", pytest.param("shared", marks=pytest.mark.slow)]
)
def test_rare_classes_train_and_set_the_default_number_of_negatives(negatives):
    labels = np.zeros(ROWS, np.int32)
    labels[[3, 17, 29]] = [1, 2, 2]
    method, params, extra = start(labels, dtype=np.float32, negatives=negatives)
    assert extra.num_negatives == 3
    student, teacher, _ = outputs(dtype=np.float32)
    rows = np.array([3, 17, 0, 1, 2, 29], np.int32)
    loss, *_ = loss_of(method)(params, extra, student, teacher, batch_of(rows, labels))
    assert np.isfinite(loss).all()


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
        ({"graph_from": "logits"}, "unknown graph_from 'logits'"),
        ({"negatives_from": "owm"}, "unknown negatives_from 'owm'; did you mean 'own'"),
        (
            {"embedding_weight": -1.0},
            "embedding_weight must be finite and not negative",
        ),
        ({"graph_weight": float("nan")}, "graph_weight must be finite"),
        ({"embedding_weight": 0, "graph_weight": 0}, "nothing would be trained"),
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
        (np.arange(ROWS), {}, "the student has 4 classes"),
    ],
)
def test_labels_that_cannot_be_contrasted_are_refused(labels, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        start(labels, dtype=np.float32, **settings)


def test_a_teacher_is_needed():
    student, *_ = outputs(dtype=np.float32)
    with pytest.raises(InvalidInputError, match="holistic needs a teacher"):
        distillers.holistic().init(nnx.Rngs(0), Spec(student, None, CLASSES, LABELS))
