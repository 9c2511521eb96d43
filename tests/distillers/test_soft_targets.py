import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from jaxkd import distillers
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELS = np.array([0, 2, 1])


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (2, 3, 5)).astype(np.float32)


def run(distiller, logits, *, with_teacher=True):
    student, teacher = (ModelOutput(jnp.asarray(x), jnp.zeros((3, 2))) for x in logits)
    batch = distillers.Batch(
        jnp.zeros((3, 8, 8, 1), jnp.uint8),
        jnp.asarray(LABELS),
        jnp.arange(3),
        jax.random.key(0),
    )
    spec = distillers.Spec(student, teacher if with_teacher else None, 5, LABELS)
    state = distiller.init(nnx.Rngs(0), spec)
    return jax.jit(distiller.loss)(*state, student, teacher, batch)


def test_cross_entropy_is_minus_log_softmax_at_the_label(logits):
    per_example, _, _ = run(distillers.cross_entropy(), logits)
    log_q = scipy.special.log_softmax(np.float64(logits[0]), axis=-1)
    np.testing.assert_allclose(per_example, -log_q[np.arange(3), LABELS], rtol=1e-6)


def test_cross_entropy_of_bfloat16_logits_is_computed_in_float32(logits):
    per_example, _, _ = run(
        distillers.cross_entropy(), jnp.asarray(logits, jnp.bfloat16)
    )
    assert per_example.dtype == jnp.float32


def test_cross_entropy_needs_no_teacher(logits):
    per_example, _, _ = run(distillers.cross_entropy(), logits, with_teacher=False)
    assert np.isfinite(per_example).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_is_the_scaled_divergence_from_teacher_to_student(
    logits, temperature
):
    per_example, _, _ = run(distillers.soft_targets(temperature=temperature), logits)
    student, teacher = np.float64(logits)
    p = scipy.special.softmax(teacher / temperature, axis=-1)
    q = scipy.special.softmax(student / temperature, axis=-1)
    expected = temperature**2 * scipy.special.rel_entr(p, q).sum(-1)
    np.testing.assert_allclose(per_example, expected, rtol=1e-5)


def test_soft_targets_refuses_to_train_without_a_teacher(logits):
    with pytest.raises(ValueError, match="needs a teacher"):
        run(distillers.soft_targets(), logits, with_teacher=False)


def test_soft_targets_refuses_a_teacher_with_other_classes(logits):
    student = ModelOutput(jnp.zeros((3, 5)), jnp.zeros((3, 2)))
    teacher = ModelOutput(jnp.zeros((3, 6)), jnp.zeros((3, 2)))
    spec = distillers.Spec(student, teacher, 5, LABELS)
    with pytest.raises(ValueError, match="5 classes and the teacher 6"):
        distillers.soft_targets().init(nnx.Rngs(0), spec)


def test_logit_matching_is_half_the_mean_squared_difference(logits):
    per_example, _, _ = run(distillers.logit_matching(), logits)
    student, teacher = np.float64(logits)
    expected = ((student - teacher) ** 2).sum(-1) / (2 * 5)
    np.testing.assert_allclose(per_example, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "method", [distillers.soft_targets(), distillers.logit_matching()]
)
def test_reports_agreement_and_the_gap_of_the_means(logits, method):
    _, _, metrics = run(method, logits)
    assert metrics.keys() == {"agreement", "mean_gap"}
    agreement = np.mean(logits[0].argmax(-1) == logits[1].argmax(-1))
    np.testing.assert_allclose(metrics["agreement"], agreement, rtol=1e-6)
    gaps = (np.float64(logits[0]).mean(-1) - np.float64(logits[1]).mean(-1)) ** 2 / 2
    np.testing.assert_allclose(metrics["mean_gap"], gaps.mean(), rtol=1e-5)


def test_logit_matching_is_soft_targets_at_infinity_and_the_gap_of_the_means(logits):
    matching, _, metrics = run(distillers.logit_matching(), logits)
    softened, _, _ = run(distillers.soft_targets(temperature=np.inf), logits)
    total = softened.mean() + metrics["mean_gap"]
    np.testing.assert_allclose(matching.mean(), total, rtol=1e-6)


def test_logit_matching_refuses_to_train_without_a_teacher(logits):
    with pytest.raises(ValueError, match="logit_matching needs a teacher"):
        run(distillers.logit_matching(), logits, with_teacher=False)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_soft_targets_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        distillers.soft_targets(temperature=temperature)
