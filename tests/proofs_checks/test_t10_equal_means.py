import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxkd import distillers, models, training
from proofs_checks import Settings, _lockstep, t10_equal_means
from proofs_checks._evidence import Verdict
from proofs_checks._lockstep import CONV, MLP, Run
from proofs_checks.t10_equal_means import (
    AT_START,
    CENTERED,
    CONSTANT,
    OFFSET,
    SGD,
    STUDENT,
    TEACHER,
    UNEQUAL,
)

SETTINGS = Settings()
STEPS = 20

SHORT = tuple(
    Run(MLP, SGD, means) for means in (CENTERED, UNEQUAL, STUDENT, TEACHER, AT_START)
)
SHORT += (Run(MLP, SGD, CONSTANT, OFFSET),)


@pytest.fixture(scope="module")
def found():
    """Short trainings of the MLP by SGD, by their means."""
    courses = t10_equal_means.courses(SETTINGS, SHORT, STEPS)
    return {run.means: course for run, course in courses.items()}


@pytest.mark.slow
def test_trainings_agree_from_equal_means_and_differ_from_others():
    claims = list(t10_equal_means.claims(SETTINGS))
    controls = list(t10_equal_means.controls(SETTINGS))
    assert {item.verdict for item in claims} == {Verdict.HOLDS}
    assert {item.verdict for item in controls} == {Verdict.REFUTED}
    assert len(claims[0].table) == len(t10_equal_means.ALL)
    assert {len(curve) for curve in claims[0].series.values()} == {500}


@pytest.mark.slow
def test_float32_keeps_the_trainings_together():
    settings = Settings(dtype="float32")
    (course,) = _lockstep.train(SHORT[:1], settings, steps=STEPS)
    assert 0 < course.difference.max() < 1e-6


@pytest.mark.parametrize("means", [CENTERED, CONSTANT], ids=lambda m: m[0])
def test_equal_means_keep_the_trainings_together(means, found):
    assert found[means].difference.max() < 1e-15
    assert found[means].mean_logit.max() < 1e-14
    assert found[means].moved > 0.1


@pytest.mark.parametrize("means", [UNEQUAL, STUDENT, TEACHER], ids=lambda m: m[0])
def test_unequal_means_part_them_at_once(means, found):
    assert found[means].difference[0] > 1e-4


def test_means_equal_at_the_start_part_them_from_the_second_step_on(found):
    first, second = found[AT_START].difference[:2]
    assert first < 1e-15
    assert second > 1e-7


def test_the_step_that_parts_them_is_the_gradient_of_the_gap():
    # One linear layer on no input: only the bias learns, and what logits matching
    # adds to its gradient is the mean gap of the logits over their number.
    def build(width, dtype, rngs):
        return models.MLP(16, (), num_classes=_lockstep.CLASSES, dtype=dtype, rngs=rngs)

    def constant(student, teacher):
        for network, bias in ((student, 2.0), (teacher, -1.0)):
            network.classifier.kernel[...] *= 0.0
            network.classifier.bias[...] = jnp.full(5, bias, jnp.float64)
        return student, teacher

    def on_biases(tree):
        return jax.tree.map(lambda x: "bias" if x.ndim == 1 else "kernel", tree)

    def biases_alone():
        parts = {"bias": optax.sgd(0.1), "kernel": optax.set_to_zero()}
        return optax.partition(parts, on_biases)

    linear = _lockstep.Network("linear", 4, (1, 1), build)
    run = Run(linear, ("SGD on biases", biases_alone), ("apart", constant), 2.0)
    (course,) = _lockstep.train([run], SETTINGS, steps=2)
    step = 0.1 * 3.0 / 5
    np.testing.assert_allclose(course.difference[0], step, rtol=1e-14)
    # At the second step the student of logits matching alone has moved.
    np.testing.assert_allclose(course.mean_logit, [0.0, step], rtol=1e-14, atol=1e-15)


def test_a_network_left_uncentered_fails_the_claim(monkeypatch):
    monkeypatch.setattr(models, "center_classifier", lambda model: model)
    courses = dict(
        zip(SHORT[:1], _lockstep.train(SHORT[:1], SETTINGS, steps=3), strict=True)
    )
    assert t10_equal_means._apart(courses, SHORT[:1]).measured > 1e-4


def test_a_failed_claim_names_the_first_parameter_that_differs(found):
    kept = t10_equal_means._report({SHORT[0]: found[CENTERED]}, SHORT[:1], 1e-10)
    assert kept == ""
    report = t10_equal_means._report({SHORT[1]: found[UNEQUAL]}, SHORT[1:2], 1e-10)
    assert "MLP, SGD, neither centered/classifier/bias" in report
    assert "Max absolute difference among violations" in report


def test_students_that_start_apart_are_refused(monkeypatch):
    starts = iter([lambda student: student, models.center_classifier])

    def init_train_state(student, *args, plain=training.init_train_state, **options):
        return plain(next(starts)(student), *args, **options)

    monkeypatch.setattr(training, "init_train_state", init_train_state)
    with pytest.raises(AssertionError, match="differ in leaves 'classifier/bias"):
        _lockstep.train(SHORT[1:2], SETTINGS, steps=1)


def test_a_training_that_diverges_is_no_evidence(found):
    bad = found[UNEQUAL]._replace(difference=np.array([np.nan]))
    run = SHORT[1]
    assert t10_equal_means._apart({run: bad}, (run,)).measured == np.inf
    values = {SHORT[0]: 1.0, run: float("nan")}
    assert t10_equal_means._least(values).measured == 0.0


def test_every_example_comes_once_an_epoch():
    order = _lockstep._order(0, 20)
    epoch = _lockstep.EXAMPLES // _lockstep.BATCH
    for first in (0, epoch):
        rows = np.sort(order[first : first + epoch].ravel())
        np.testing.assert_array_equal(rows, np.arange(_lockstep.EXAMPLES))


def built(network, dtype="float64"):
    """Student and teacher of an architecture."""
    ((student, teacher),) = _lockstep._build((network,), Settings(dtype=dtype))
    return nnx.merge(*student, copy=True), nnx.merge(*teacher, copy=True)


def logits_of(model, images):
    """Computes logits in inference mode, as one program."""
    network = training.freeze(model)
    return jax.jit(network.apply)(network.variables, images).logits


@pytest.mark.usefixtures("x64")
def test_the_teacher_made_for_it_has_the_students_means_and_other_logits():
    images = np.random.default_rng(0).normal(size=(6, 4, 4, 1))
    ours, theirs = (logits_of(m, images) for m in AT_START[1](*built(MLP)))
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    np.testing.assert_allclose(ours.mean(-1), theirs.mean(-1), atol=1e-15)
    assert np.abs(ours - theirs).max() > 0.1
    assert np.ptp(ours.mean(-1)) > 0.01


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        pytest.param("float32", marks=pytest.mark.slow),
        pytest.param("bfloat16", marks=pytest.mark.slow),
    ],
)
def test_the_conv_net_computes_in_the_dtype_and_can_be_centered(dtype):
    student, _ = built(CONV, dtype)
    images = np.random.default_rng(0).normal(size=(6, 6, 6, 1))
    logits = logits_of(models.center_classifier(student), images)
    assert logits.dtype == jnp.dtype(dtype)
    means = np.asarray(logits, np.float64).mean(-1)
    assert np.abs(means).max() < float(jnp.finfo(dtype).eps)
    assert np.abs(np.asarray(logits, np.float64)).max() > 0.1


def test_both_losses_are_the_librarys(monkeypatch):
    seen = []

    def watched(distiller, dtype, plain=_lockstep._watched):
        seen.append(distiller)
        return plain(distiller, dtype)

    monkeypatch.setattr(_lockstep, "_watched", watched)
    monkeypatch.setattr(distillers, "logit_matching", distillers.cross_entropy)
    (course,) = _lockstep.train(SHORT[:1], SETTINGS, steps=1)
    assert len(seen) == 2
    assert course.difference[0] > 1e-4


@pytest.mark.parametrize("chosen", [0, 1])
def test_an_optimizer_chosen_by_its_state_is_that_optimizer(chosen):
    named = [("momentum", lambda: optax.sgd(0.1, 0.9)), ("Adam", lambda: optax.adam(1))]
    several, alone = _lockstep._one_of(named, named[chosen]), named[chosen][1]()
    params = {"a": jnp.ones(3), "b": jnp.zeros((2, 2))}
    states = several.init(params), alone.init(params)
    for step in range(3):
        grads = jax.tree.map(lambda x, s=step: jnp.cos(x + float(s)), params)
        with jax.numpy_dtype_promotion("standard"):
            ours, state = several.update(grads, states[0], params)
            expected, other = alone.update(grads, states[1], params)
        states = state, other
        chex.assert_trees_all_close(ours, expected, rtol=1e-6)
