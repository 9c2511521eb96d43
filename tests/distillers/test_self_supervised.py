import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import _self_supervised
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELS = np.array([0, 2, 1, 2, 3, 0], np.int32)
BATCH, CLASSES = len(LABELS), 4
WIDTHS = {"student": 5, "teacher": 3}


@functools.cache
def networks(dtype=np.float32, seed=0):
    """(student, teacher, views): made-up outputs, the teacher's mostly right."""
    rng = np.random.default_rng(seed)

    def output(rows, width):
        logits = rng.normal(size=(rows, CLASSES))
        logits[np.arange(rows), LABELS[np.arange(rows) % BATCH]] += 1.0
        embedding = rng.normal(size=(rows, width))
        return ModelOutput(jnp.asarray(logits, dtype), jnp.asarray(embedding, dtype))

    student, teacher = (output(BATCH, width) for width in WIDTHS.values())
    views = distillers.Views(*(output(3 * BATCH, w) for w in WIDTHS.values()))
    return student, teacher, views


def batch_of(views):
    images = jnp.zeros((BATCH, 2, 2, 1), jnp.uint8)
    rows = jnp.arange(BATCH)
    return distillers.Batch(images, jnp.asarray(LABELS), rows, jax.random.key(0), views)


def spec_of(student, teacher):
    return distillers.Spec(student, teacher, CLASSES, LABELS)


@functools.cache
def start():
    """The state before pretraining, which depends on no setting."""
    method, spec = distillers.self_supervised(), spec_of(*networks()[:2])
    build = lambda key: method.init(nnx.Rngs(key), spec)
    return jax.jit(build)(jax.random.key(1))


def evaluate(loss, state, outputs=None):
    student, teacher, views = outputs or networks()
    return jax.jit(loss)(*state, student, teacher, batch_of(views))


default = functools.cache(distillers.self_supervised)


@functools.cache
def gradient_of(loss):
    total = lambda p, x, s, t, v: loss(p, x, s, t, batch_of(v))[0].sum()
    return jax.jit(jax.grad(total, argnums=(0, 2, 3, 4)))


def gradients(loss, state, outputs=None):
    """Of the summed loss: of parameters, student, teacher and views."""
    return gradient_of(loss)(*state, *(outputs or networks()))


# The definition in NumPy float64, view by view.


def by_hand_projection(params, x):
    x = np.float64(x)
    for name in ("hidden", "out"):
        layer = params[name]
        if name == "out":
            x = np.maximum(x, 0.0)
        x = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
    return x


def by_hand_cosines(params, views, originals):
    units = []
    for output in (views, originals):
        z = by_hand_projection(params, output.embedding)
        units.append(z / np.linalg.norm(z, axis=1, keepdims=True))
    return units[0] @ units[1].T


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x)))


def divergence(student, teacher, temperature):
    p = log_softmax(np.float64(teacher) / temperature)
    q = log_softmax(np.float64(student) / temperature)
    return temperature**2 * np.sum(np.exp(p) * (p - q))


def by_hand_selection(scores, targets, ratio):
    """The numbers of the views that take part; view k shows example k mod BATCH."""
    views = sorted(range(3 * BATCH), key=lambda k: (k % BATCH, k))
    error = {}
    for k in views:
        ranking = np.argsort(-np.float64(scores[k]))
        error[k] = int(np.flatnonzero(ranking == targets[k % BATCH])[0])
    wrong = [k for k in views if error[k] > 0]
    kept = sorted(wrong, key=error.get)[: math.floor(ratio * len(wrong))]
    return [k for k in views if error[k] == 0] + kept


def by_hand_mean(values, selected):
    per_example = np.zeros(BATCH)
    for k in selected:
        per_example[k % BATCH] += values[k] * BATCH / len(selected)
    return per_example


@pytest.mark.parametrize(
    "ratio_tf, ratio_ss, temperature, ss_temperature",
    [
        (0.4, 0.75, 2.0, 0.1),
        *(
            pytest.param(*settings, marks=pytest.mark.slow)
            for settings in [
                (1.0, 0.75, 4.0, 0.5),
                (0.4, 0.0, 2.0, 0.1),
                (0.0, 1.0, 4.0, 0.1),
            ]
        ),
    ],
)
def test_the_loss_is_the_weighted_mean_over_the_selected_views(
    ratio_tf, ratio_ss, temperature, ss_temperature
):
    method = distillers.self_supervised(
        tf_weight=1.5,
        ss_weight=7.0,
        ratio_tf=ratio_tf,
        ratio_ss=ratio_ss,
        temperature=temperature,
        ss_temperature=ss_temperature,
    )
    state = method.pretraining.finish(*start())
    value, extra, metrics = evaluate(method.loss, state)
    student, teacher, views = networks()

    of_student = by_hand_cosines(state.params["student"], views.student, student)
    of_teacher = by_hand_cosines(state.extra["teacher"], views.teacher, teacher)
    pairs = zip(views.student.logits, views.teacher.logits, strict=True)
    predictions = [divergence(*pair, temperature) for pair in pairs]
    pairs = zip(of_student, of_teacher, strict=True)
    similarities = [divergence(*pair, ss_temperature) for pair in pairs]
    transformed = by_hand_mean(
        predictions, by_hand_selection(views.teacher.logits, LABELS, ratio_tf)
    )
    similarity = by_hand_mean(
        similarities, by_hand_selection(of_teacher, np.arange(BATCH), ratio_ss)
    )
    expected = 1.5 * transformed + 7.0 * similarity
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["transformed"], transformed.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["similarity"], similarity.mean(), rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, extra, state.extra)


def test_the_example_has_views_that_are_right_and_wrong_in_different_ways():
    # Without them, the test above would not see what is selected.
    _, teacher, views = networks()
    params = start().params["teacher"]
    similarities = by_hand_cosines(params, views.teacher, teacher)
    tables = (views.teacher.logits, LABELS), (similarities, np.arange(BATCH))
    for scores, targets in tables:
        sizes = {len(by_hand_selection(scores, targets, r)) for r in (0.0, 0.75, 1.0)}
        assert len(sizes) == 3


@pytest.mark.parametrize(
    "error, ratio, expected",
    [
        ([0, 2, 1, 3, 0, 2], 0.75, [1, 1, 1, 0, 1, 1]),
        ([0, 2, 1, 3, 0, 2], 0.5, [1, 1, 1, 0, 1, 0]),  # equal ones in their order
        ([0, 2, 1, 3, 0, 2], 0.49, [1, 0, 1, 0, 1, 0]),  # rounded down
        ([0, 2, 1, 3, 0, 2], 0.0, [1, 0, 0, 0, 1, 0]),
        ([1, 2], 1.0, [1, 1]),
        ([1, 2], 0.0, [0, 0]),
        ([0, 0], 0.0, [1, 1]),
    ],
)
def test_of_the_wrong_views_those_with_the_smallest_error_take_part(
    error, ratio, expected
):
    selected = jax.jit(_self_supervised._select, static_argnums=1)
    np.testing.assert_array_equal(selected(jnp.array(error), ratio), expected)


def test_no_selected_view_is_a_loss_of_zero_with_gradients_of_zero():
    method = distillers.self_supervised(ratio_tf=0.0, ss_weight=0.0)
    student, teacher, views = networks()
    wrong = -10.0 * jax.nn.one_hot(jnp.tile(jnp.asarray(LABELS), 3), CLASSES)
    views = views._replace(teacher=views.teacher._replace(logits=wrong))
    state = method.pretraining.finish(*start())

    def total(logits):
        seen = views._replace(student=views.student._replace(logits=logits))
        return method.loss(*state, student, teacher, batch_of(seen))[0].sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(views.student.logits)
    assert float(value) == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_the_teachers_projection_learns_to_find_the_original():
    method = distillers.self_supervised(ss_temperature=0.3)
    state = start()
    value, extra, metrics = evaluate(method.pretraining.loss, state)
    _, teacher, views = networks()
    cosines = by_hand_cosines(state.params["teacher"], views.teacher, teacher)
    expected = np.zeros(BATCH)
    for k, row in enumerate(cosines):
        expected[k % BATCH] -= log_softmax(row / 0.3)[k % BATCH] / 3
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert (extra, metrics) == ({}, {})


def test_pretraining_reaches_the_teachers_projection_alone():
    method = default()
    on_params, *on_outputs = gradients(method.pretraining.loss, start())
    assert all(np.any(g) for g in jax.tree.leaves(on_params["teacher"]))
    others = jax.tree.leaves((on_params["student"], on_outputs))
    assert not any(np.any(g) for g in others)
    assert not method.pretraining.trains_student


def test_training_reaches_the_students_projection_and_outputs():
    method = default()
    state = method.pretraining.finish(*start())
    on_params, on_student, on_teacher, on_views = gradients(method.loss, state)
    reached = jax.tree.leaves((on_params, on_student.embedding, on_views.student))
    assert all(np.any(g) for g in reached)
    assert not any(np.any(g) for g in jax.tree.leaves((on_teacher, on_views.teacher)))


def test_finishing_moves_the_teachers_projection_out_of_what_is_trained():
    method = distillers.self_supervised()
    params, extra = start()
    state = method.pretraining.finish(params, extra)
    assert state.params == {"student": params["student"]}
    assert state.extra == {"teacher": params["teacher"]}


def test_degenerate_embeddings_have_finite_gradients():
    method = default()
    state = method.pretraining.finish(*start())
    zeros = jax.tree.map(jnp.zeros_like, networks())
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    on_params, on_student, *_ = gradients(method.loss, state, zeros)
    leaves = jax.tree.leaves((on_params, on_student))
    assert all(np.all(np.isfinite(g)) for g in leaves)


@pytest.mark.usefixtures("x64")
def test_float64_networks_have_float64_losses():
    method = distillers.self_supervised()
    student, teacher, views = networks(np.float64)

    def losses(key):
        state = method.init(nnx.Rngs(key), spec_of(student, teacher))
        before = method.pretraining.loss(*state, student, teacher, batch_of(views))[0]
        finished = method.pretraining.finish(*state)
        after, _, metrics = method.loss(*finished, student, teacher, batch_of(views))
        return before, after, metrics

    leaves = jax.tree.leaves(jax.eval_shape(losses, jax.random.key(1)))
    assert {x.dtype for x in leaves} == {np.dtype("float64")}


def test_the_views_are_all_quarter_turns_then_all_halves_then_all_three_quarters():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    views = distillers.self_supervised().views(jnp.asarray(images))
    assert views.dtype == np.uint8
    for turns in (1, 2, 3):
        for row, image in enumerate(images):
            view = views[2 * (turns - 1) + row]
            np.testing.assert_array_equal(view, np.rot90(image, turns))


def test_images_that_are_not_square_are_refused():
    with pytest.raises(InvalidInputError, match=r"must be square.*\(2, 4, 6, 3\)"):
        jax.eval_shape(distillers.rotations, jnp.zeros((2, 4, 6, 3)))


def test_a_missing_teacher_or_other_classes_are_refused():
    student, teacher, _ = networks()
    init = lambda t: distillers.self_supervised().init(nnx.Rngs(0), spec_of(student, t))
    with pytest.raises(InvalidInputError, match="self_supervised needs a teacher"):
        init(None)
    with pytest.raises(InvalidInputError, match="4 classes and the teacher 2"):
        init(teacher._replace(logits=jnp.zeros((BATCH, 2))))


def test_training_without_views_or_without_the_pretraining_is_refused():
    method = distillers.self_supervised()
    state = start()
    student, teacher, _ = networks()
    with pytest.raises(InvalidInputError, match="has a stage before this one"):
        evaluate(method.loss, state)
    with pytest.raises(InvalidInputError, match=r"in batch\.views, but"):
        evaluate(method.pretraining.loss, state, (student, teacher, None))
    finished = method.pretraining.finish(*state)
    with pytest.raises(InvalidInputError, match=r"in batch\.views, but"):
        evaluate(method.loss, finished, (student, teacher, None))


@pytest.mark.parametrize(
    "name, value",
    [
        ("tf_weight", -1.0),
        ("ss_weight", math.inf),
        ("ratio_tf", 1.5),
        ("ratio_ss", -0.1),
        ("temperature", 0.0),
        ("ss_temperature", math.inf),
        ("pretraining_epochs", 0),
    ],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(InvalidInputError, match=f"^{name} must"):
        distillers.self_supervised(**{name: value})


def test_the_published_settings_are_the_defaults():
    settings = inspect.signature(distillers.self_supervised).parameters
    assert {name: p.default for name, p in settings.items()} == {
        "tf_weight": 2.7,
        "ss_weight": 10.0,
        "ratio_tf": 1.0,
        "ratio_ss": 0.75,
        "temperature": 4.0,
        "ss_temperature": 0.5,
        "pretraining_epochs": 60,
    }
    assert distillers.self_supervised().pretraining.epochs == 60
