import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import class_relations, divergences, labeled, soft_targets

from jaxkd import distillers, losses
from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELS = np.array([0, 2, 1, 4], np.int32)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (2, 4, 5)).astype(np.float32)


def run(distiller, logits, *, with_teacher=True, top_logits=None):
    student, teacher = (ModelOutput(jnp.asarray(x), jnp.zeros((4, 2))) for x in logits)
    teacher = teacher._replace(top_logits=top_logits)
    batch = distillers.Batch(
        jnp.zeros((4, 8, 8, 1), jnp.uint8),
        jnp.asarray(LABELS),
        jnp.arange(4),
        jax.random.key(0),
    )
    spec = distillers.Spec(student, teacher if with_teacher else None, 5, LABELS)
    state = distiller.init(nnx.Rngs(0), spec)
    return distiller.loss(state.params, state.extra, student, teacher, batch)


def standardized(student, teacher, temperature=2.0):
    centered = [x - x.mean(-1, keepdims=True) for x in (student, teacher)]
    scaled = [x / x.std(-1, keepdims=True) for x in centered]
    return soft_targets.soft_target_kl(scaled[0], scaled[1], temperature)


def class_relation(
    student, teacher, inter_weight=1.0, intra_weight=1.0, temperature=4.0
):
    inter = class_relations.inter_class_relation(student, teacher, temperature)
    intra = class_relations.intra_class_relation(student, teacher, temperature).mean()
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def with_labels(definition):
    return lambda student, teacher, **settings: definition(
        student, teacher, LABELS, **settings
    )


METHODS = {
    "reverse_kl": (divergences.reverse_kl, {"temperature": 2.0}),
    "jensen_shannon": (
        divergences.jensen_shannon,
        {"mixture": 0.2, "temperature": 2.0},
    ),
    "skewed_kl": (divergences.skewed_kl, {"skew": 0.3, "temperature": 2.0}),
    "transformed_teacher_matching": (
        soft_targets.transformed_teacher_matching,
        {"temperature": 2.0},
    ),
    "weighted_transformed_teacher_matching": (
        soft_targets.weighted_transformed_teacher_matching,
        {"temperature": 2.0},
    ),
    "decoupled_kl": (
        with_labels(labeled.decoupled_kl),
        {"target_weight": 2.0, "non_target_weight": 3.0, "temperature": 2.0},
    ),
    "normalized_kl": (
        with_labels(labeled.normalized_kl),
        {"non_target_weight": 3.0, "temperature": 2.0},
    ),
    "standardized_soft_targets": (standardized, {"temperature": 3.0}),
    "class_relation": (
        class_relation,
        {"inter_weight": 2.0, "intra_weight": 3.0, "temperature": 2.0},
    ),
    "multi_level": (class_relations.multi_level, {"temperatures": (1.0, 3.0)}),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("published", [True, False])
def test_the_loss_is_that_of_its_definition(logits, name, published):
    definition, settings = METHODS[name]
    settings = {} if published else settings
    distiller = getattr(distillers, name)(**settings)
    per_example, extra, metrics = run(distiller, logits)
    np.testing.assert_allclose(
        per_example, definition(*logits.astype(np.float64), **settings), rtol=1e-4
    )
    assert extra == {}
    agreement = np.mean(logits[0].argmax(-1) == logits[1].argmax(-1))
    np.testing.assert_allclose(metrics["agreement"], agreement)


@pytest.mark.parametrize("name", METHODS)
def test_it_refuses_to_train_without_a_teacher(logits, name):
    with pytest.raises(InvalidInputError, match=f"{name} needs a teacher"):
        run(getattr(distillers, name)(), logits, with_teacher=False)


@pytest.mark.parametrize("name", METHODS)
def test_it_refuses_a_temperature_that_is_not_positive(name):
    setting = {"temperatures": (1.0, 0.0)}
    if name != "multi_level":
        setting = {"temperature": 0.0}
    with pytest.raises(InvalidInputError, match="must be positive"):
        getattr(distillers, name)(**setting)


def test_a_share_outside_its_range_is_refused_at_once():
    with pytest.raises(InvalidInputError, match="mixture must lie"):
        distillers.jensen_shannon(mixture=1.0)
    with pytest.raises(InvalidInputError, match="skew must lie"):
        distillers.skewed_kl(skew=1.5)


def test_multi_level_needs_a_temperature():
    with pytest.raises(InvalidInputError, match="at least one"):
        distillers.multi_level(temperatures=())


@pytest.mark.parametrize("temperature", [4.0, 3.0, jnp.inf])
def test_soft_targets_of_which_the_largest_are_known_are_sparse(logits, temperature):
    student, teacher = logits
    top = losses.top_logits(teacher, 2)
    method = distillers.soft_targets(temperature=temperature)
    found, _, _ = run(method, logits, top_logits=top)
    expected = losses.sparse_soft_target_kl(
        student,
        top.values,
        top.indices,
        remainder=top.remainder(temperature),
        temperature=temperature,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    full, _, _ = run(method, logits)
    assert np.abs(found - full).max() > 1e-3
