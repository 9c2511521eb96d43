import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import holistic as reference

from jaxkd import graphs, heads
from jaxkd._errors import InvalidInputError


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    embeddings = reference.normalize(rng.normal(size=(7, 5))).astype(np.float32)
    return embeddings, rng.integers(0, 7, (7, 3)).astype(np.int32)


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("transform", [lambda m: m, nnx.jit])
def test_encoder_matches_its_definition(batch, hops, transform):
    embeddings, neighbors = batch
    module = heads.GraphEncoder(5, hops=hops, rngs=nnx.Rngs(0))
    layer = {
        "kernel": np.float64(module.linear.kernel[...]),
        "bias": np.float64(module.linear.bias[...]),
    }
    expected = reference.encode(layer, np.float64(embeddings), neighbors, hops)
    actual = transform(module)(jnp.asarray(embeddings), jnp.asarray(neighbors))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1.0, rtol=1e-6)


def test_permuting_the_batch_permutes_the_encodings(batch):
    embeddings, _ = batch
    logits = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    order = np.random.default_rng(2).permutation(7)
    module = heads.GraphEncoder(5, rngs=nnx.Rngs(0))

    def encode(h, z):
        return module(jnp.asarray(h), graphs.nearest_neighbors(z, k=3))

    np.testing.assert_allclose(
        encode(embeddings[order], logits[order]),
        encode(embeddings, logits)[order],
        atol=1e-6,
    )


@pytest.mark.parametrize("hops", [1, 3])
def test_weights_start_from_xaviers_normal_law_with_gain_root_two(hops):
    module = heads.GraphEncoder(128, hops=hops, rngs=nnx.Rngs(0))
    kernel = np.asarray(module.linear.kernel[...])
    deviation = np.sqrt(2) * np.sqrt(2 / (128 * (hops + 1) + 128))
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.02)
    assert np.abs(kernel).max() > 3 * deviation  # not truncated
    np.testing.assert_array_equal(module.linear.bias[...], 0.0)


def test_identical_embeddings_have_identical_encodings_and_finite_gradients():
    module = heads.GraphEncoder(4, rngs=nnx.Rngs(0))
    neighbors = graphs.nearest_neighbors(jnp.zeros((5, 3)), k=2)
    embeddings = jnp.full((5, 4), 0.5)
    encoded = module(embeddings, neighbors)
    np.testing.assert_array_equal(encoded, jnp.broadcast_to(encoded[0], (5, 4)))
    gradient = jax.grad(lambda h: jnp.sum(module(h, neighbors) ** 3))(embeddings)
    assert np.isfinite(gradient).all()


def test_hops_must_be_positive():
    with pytest.raises(InvalidInputError, match="hops must be at least 1, got 0"):
        heads.GraphEncoder(4, hops=0, rngs=nnx.Rngs(0))


def test_holistic_heads_are_four_independent_modules():
    module = heads.HolisticHeads(6, 5, dim=4, hops=2, rngs=nnx.Rngs(0))
    assert module.student_embedding.linear.kernel.shape == (6, 4)
    assert module.teacher_embedding.linear.kernel.shape == (5, 4)
    student, teacher = module.student_encoder, module.teacher_encoder
    assert student.linear.kernel.shape == teacher.linear.kernel.shape == (12, 4)
    assert np.any(student.linear.kernel[...] != teacher.linear.kernel[...])
