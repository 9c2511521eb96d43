import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import channel_relations, relational
from reference import example_relations as definitions

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELS = np.array([0, 2, 1, 1, 0, 2])
METHODS = {
    "similarity_preserving": distillers.similarity_preserving,
    "relational": distillers.relational,
    "probabilistic_transfer": distillers.probabilistic_transfer,
    "correlation_congruence": distillers.correlation_congruence,
    "correlation_congruence_kernel": distillers.correlation_congruence_kernel,
    "inter_channel_correlation": distillers.inter_channel_correlation,
}
ON_STAGES = ["similarity_preserving", "inter_channel_correlation"]
every_method = pytest.mark.parametrize("name", METHODS)


def output(seed, *, width, channels, dtype=jnp.float32, batch=6):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(0.2, 1, shape), dtype)
    stages = tuple(draw(batch, size, size, channels) for size in (4, 4, 2))
    return ModelOutput(draw(batch, 3), draw(batch, width), stages, stages)


STUDENT = output(0, width=4, channels=3)
TEACHER = output(1, width=5, channels=6)
SAME_CHANNELS = output(2, width=5, channels=3)


def batch_of(student):
    rows = jnp.arange(len(student.logits))
    images = jnp.zeros((len(rows), 8, 8, 1), jnp.uint8)
    return distillers.Batch(images, rows % 3, rows, jax.random.key(0))


def start(distiller, student=STUDENT, teacher=TEACHER):
    spec = distillers.Spec(student, teacher, 3, LABELS)
    return distiller.init(nnx.Rngs(0), spec)


def run(distiller, student=STUDENT, teacher=TEACHER):
    state = start(distiller, student, teacher)
    loss = lambda params, extra: distiller.loss(
        params, extra, student, teacher, batch_of(student)
    )
    return jax.jit(loss)(*state)


def embedded(distiller):
    """Both networks' embeddings, mapped by the initial heads."""
    params, _ = start(distiller)
    pair = []
    for name, network in (("student", STUDENT), ("teacher", TEACHER)):
        linear = params[name]["linear"]
        x = np.float64(network.embedding) @ np.float64(linear["kernel"])
        pair.append(x + np.float64(linear["bias"]))
    return pair


def test_similarity_preserving_compares_the_last_stages():
    per_example, _, _ = run(distillers.similarity_preserving())
    expected = definitions.similarity_preserving(STUDENT.stages[-1], TEACHER.stages[-1])
    np.testing.assert_allclose(per_example, expected, rtol=1e-4)


@pytest.mark.parametrize("weights", [(25.0, 50.0), (2.0, 0.0), (0, 3)])
def test_relational_adds_weighted_distances_and_angles(weights):
    distiller = distillers.relational(
        distance_weight=weights[0], angle_weight=weights[1]
    )
    per_example, _, metrics = run(distiller)
    pair = np.float64(STUDENT.embedding), np.float64(TEACHER.embedding)
    distance = relational.relational_distance(*pair)
    angle = relational.relational_angle(*pair)
    expected = weights[0] * distance + weights[1] * angle
    np.testing.assert_allclose(per_example, expected, rtol=1e-4)
    means = {"distance": distance.mean(), "angle": angle.mean()}
    used = {name for name, w in zip(means, weights, strict=True) if w}
    assert metrics.keys() == used
    for name in used:
        np.testing.assert_allclose(metrics[name], means[name], rtol=1e-4)


def test_relational_has_the_published_weights():
    explicit = distillers.relational(distance_weight=25.0, angle_weight=50.0)
    np.testing.assert_array_equal(run(distillers.relational())[0], run(explicit)[0])


def test_probabilistic_transfer_compares_the_embeddings():
    per_example, _, _ = run(distillers.probabilistic_transfer())
    expected = definitions.probabilistic_transfer(STUDENT.embedding, TEACHER.embedding)
    np.testing.assert_allclose(per_example, expected, rtol=1e-3, atol=1e-7)


def test_correlation_congruence_shares_each_pair_and_keeps_the_mean():
    distiller = distillers.correlation_congruence(dim=7)
    per_example, _, _ = run(distiller)
    pairs = definitions.correlation_congruence(*embedded(distiller))
    np.testing.assert_allclose(per_example.mean(), pairs.mean(), rtol=1e-5)
    np.testing.assert_allclose(per_example[0], 0.5 * pairs[0] * 6 / 5, rtol=1e-5)
    np.testing.assert_allclose(
        per_example[2], 0.5 * (pairs[1] + pairs[2]) * 6 / 5, rtol=1e-5
    )


def test_the_kernel_compares_linear_embeddings():
    distiller = distillers.correlation_congruence_kernel(dim=7, gamma=0.7, order=3)
    per_example, _, _ = run(distiller)
    expected = definitions.correlation_congruence_kernel(
        *embedded(distiller), gamma=0.7, order=3
    )
    np.testing.assert_allclose(per_example, expected, rtol=1e-4)


def test_equal_channels_are_compared_without_a_head():
    distiller = distillers.inter_channel_correlation()
    assert start(distiller, STUDENT, SAME_CHANNELS) == ({}, {})
    per_example, _, _ = run(distiller, STUDENT, SAME_CHANNELS)
    expected = channel_relations.inter_channel_correlation(
        *(np.float64(x.stages[-1]) for x in (STUDENT, SAME_CHANNELS))
    )
    np.testing.assert_allclose(per_example, expected, rtol=1e-4)


def test_other_channels_are_adapted_with_the_statistics_of_the_batch():
    distiller = distillers.inter_channel_correlation()
    params, extra = start(distiller)
    per_example, after, _ = run(distiller)
    x = np.float64(STUDENT.stages[-1]) @ np.float64(params["conv"]["kernel"][0, 0])
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    expected = channel_relations.inter_channel_correlation(
        (x - mean) / np.sqrt(variance + 1e-5), np.float64(TEACHER.stages[-1])
    )
    np.testing.assert_allclose(per_example, expected, rtol=1e-4)
    assert jax.tree.structure(after) == jax.tree.structure(extra)
    np.testing.assert_allclose(after["norm"]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)


@every_method
def test_student_and_heads_have_gradients_and_the_teacher_has_none(name):
    distiller = METHODS[name]()
    params, extra = start(distiller)

    def total(params, student, teacher):
        return distiller.loss(params, extra, student, teacher, batch_of(student))[
            0
        ].sum()

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(params, STUDENT, TEACHER)
    used = gradients[1].stages[-1] if name in ON_STAGES else gradients[1].embedding
    assert np.any(used)
    assert not any(np.any(g) for g in jax.tree.leaves(gradients[2]))
    flat = jax.tree_util.tree_leaves_with_path(gradients[0])
    assert {jax.tree_util.keystr(path) for path, g in flat if not np.any(g)} == set()


@every_method
def test_one_value_per_example_in_float32_whatever_comes_in(name):
    low = [
        output(seed, width=4, channels=c, dtype=jnp.bfloat16)
        for seed, c in ((0, 3), (1, 6))
    ]
    distiller = METHODS[name]()
    per_example, _, _ = jax.eval_shape(lambda: run(distiller, *low))
    assert per_example.shape == (6,)
    assert per_example.dtype == jnp.float32


@every_method
def test_a_teacher_is_needed(name):
    with pytest.raises(InvalidInputError, match=f"{name} needs a teacher"):
        start(METHODS[name](), STUDENT, None)


@pytest.mark.parametrize("name", ON_STAGES)
def test_feature_maps_are_needed(name):
    bare = STUDENT._replace(stages=())
    with pytest.raises(InvalidInputError, match=f"{name} compares feature maps"):
        start(METHODS[name](), bare, TEACHER)


def test_neighbors_in_the_batch_are_needed():
    one = output(0, width=4, channels=3, batch=1)
    with pytest.raises(InvalidInputError, match="only one"):
        start(distillers.correlation_congruence(), one, one)


@pytest.mark.parametrize(
    "method, settings, message",
    [
        ("relational", {"distance_weight": -1.0}, "distance_weight must be finite"),
        ("relational", {"angle_weight": np.nan}, "angle_weight must be finite"),
        ("relational", {"distance_weight": 0, "angle_weight": 0}, "both 0"),
        ("correlation_congruence", {"dim": 0}, "dim must be at least 1"),
        ("correlation_congruence_kernel", {"gamma": 0.0}, "gamma must be positive"),
        ("correlation_congruence_kernel", {"order": 0}, "order must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(method, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        METHODS[method](**settings)
