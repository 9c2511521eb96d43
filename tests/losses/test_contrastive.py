import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from reference import contrastive as reference

from jaxkd import losses
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    positive, negatives = rng.uniform(-1, 1, 5), rng.uniform(-1, 1, (5, 9))
    return positive.astype(np.float32), negatives.astype(np.float32)


def info_nce(temperature=0.5, **settings):
    return lambda positive, negatives: losses.info_nce(
        positive, negatives, temperature=temperature, **settings
    )


def gradient_of(loss):
    """The compiled gradient of the sum in both scores."""
    return jax.jit(jax.grad(lambda *x: loss(*x).sum(), argnums=(0, 1)))


def value_and_gradient_of(loss):
    """Likewise, with the sum."""
    return jax.jit(jax.value_and_grad(lambda *x: loss(*x).sum(), argnums=(0, 1)))


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0, 1])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_matches_its_definition(scores, temperature, transform):
    expected = reference.info_nce(*scores, temperature)
    value = transform(info_nce(temperature))(*scores)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(), (9,), (5, 1), (5, 9)])
def test_weights_multiply_the_exponentials(scores, shape):
    log_weight = np.random.default_rng(1).normal(size=shape)
    scores = tuple(np.float64(x) for x in scores)
    value = info_nce(log_weight=log_weight)(*scores)
    expected = reference.info_nce(*scores, 0.5, log_weight)
    np.testing.assert_allclose(value, expected, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_gradient_is_the_probability_of_the_negatives(scores):
    positive, negatives = (np.float64(x) for x in scores)
    gradients = gradient_of(info_nce())(positive, negatives)
    all_scores = np.concatenate([positive[:, None], negatives], axis=1)
    probability = np.asarray(jax.nn.softmax(all_scores / 0.5))
    np.testing.assert_allclose(gradients[1], probability[:, 1:] / 0.5, atol=1e-12)
    np.testing.assert_allclose(gradients[0], (probability[:, 0] - 1) / 0.5, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_is_differentiable_twice_in_all_arguments(scores):
    def loss(positive, negatives, temperature, log_weight):
        return losses.info_nce(
            positive, negatives, temperature=temperature, log_weight=log_weight
        )

    arguments = (*(np.float64(x) for x in scores), np.float64(0.5), np.zeros(9))
    check_grads(jax.jit(loss), arguments, order=2, modes=("fwd", "rev"))


def test_negative_of_weight_zero_takes_no_part(scores):
    positive, negatives = scores
    log_weight = np.zeros(9, np.float32)
    log_weight[[0, 4]] = -np.inf
    loss = info_nce(log_weight=log_weight)
    value, gradients = value_and_gradient_of(loss)(positive, negatives)
    kept = np.delete(negatives, [0, 4], axis=1)
    expected = value_and_gradient_of(info_nce())(positive, kept)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradients[0], expected[1][0], rtol=1e-5)
    np.testing.assert_allclose(
        np.delete(gradients[1], [0, 4], axis=1), expected[1][1], rtol=1e-5
    )
    assert not np.any(gradients[1][:, [0, 4]])


@pytest.mark.parametrize("case", ["none", "all masked"])
def test_without_negatives_loss_and_gradient_are_zero(scores, case):
    positive, negatives = scores
    negatives = negatives[:, :0] if case == "none" else negatives
    loss = info_nce(log_weight=-np.inf)
    results = value_and_gradient_of(loss)(positive, negatives)
    assert all(not np.any(x) for x in jax.tree.leaves(results))


def test_every_negative_twice_at_half_the_weight_changes_nothing(scores):
    positive, negatives = scores
    twice = np.concatenate([negatives, negatives], axis=1)
    value = info_nce(log_weight=np.log(0.5))(positive, twice)
    np.testing.assert_allclose(value, info_nce()(*scores), rtol=1e-6)


def test_equal_scores_give_the_logarithm_of_their_number():
    value = info_nce(0.07)(jnp.full(3, 0.9), jnp.full((3, 15), 0.9))
    np.testing.assert_allclose(value, np.log(16), rtol=1e-6)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_extreme_scores_give_finite_values_and_gradients(sign):
    positive, negatives = jnp.full(2, sign * 1e4), jnp.full((2, 3), -sign * 1e4)
    value, gradients = value_and_gradient_of(info_nce(0.07))(positive, negatives)
    expected = 0.0 if sign > 0 else 2 * (2e4 / 0.07 + np.log(3))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


def test_a_small_loss_keeps_its_digits():
    value = info_nce(1.0)(jnp.array([30.0]), jnp.array([[0.0, 0.0]]))
    np.testing.assert_allclose(value, 2 * np.exp(-30.0), rtol=1e-6)


def test_bfloat16_is_computed_in_float32(scores):
    low = [jnp.asarray(x, jnp.bfloat16) for x in scores]
    value = info_nce()(*low)
    assert value.dtype == jnp.float32
    expected = info_nce()(*(x.astype(jnp.float32) for x in low))
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_leading_axes_are_free(batch):
    rng = np.random.default_rng(2)
    positive = rng.normal(size=batch).astype(np.float32)
    negatives = rng.normal(size=(*batch, 4)).astype(np.float32)
    value = info_nce()(jnp.asarray(positive), negatives)
    assert value.shape == batch
    expected = reference.info_nce(positive, negatives, 0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_integer_scores_are_a_type_error(scores):
    with pytest.raises(TypeError, match="negatives must be floating point"):
        inspect.unwrap(losses.info_nce)(
            scores[0], np.ones((5, 9), np.int32), temperature=0.5
        )


def test_shapes_that_do_not_fit_are_an_error_that_names_both(scores):
    with pytest.raises(InvalidInputError, match=r"\(5, 9\) and \(4,\)"):
        inspect.unwrap(losses.info_nce)(scores[0][:4], scores[1], temperature=0.5)


def test_weights_that_do_not_broadcast_are_an_error_that_names_both(scores):
    with pytest.raises(InvalidInputError, match=r"log_weight .*\(8,\) and \(5, 9\)"):
        info_nce(log_weight=jnp.zeros(8))(*scores)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_temperature_must_be_positive_and_finite(scores, temperature):
    with pytest.raises(InvalidInputError, match="temperature must be"):
        info_nce(temperature)(*scores)


NCE = {"normalizer": 3.0, "noise_probability": 0.05, "temperature": 0.5}


def nce(positive, negatives):
    return losses.noise_contrastive(positive, negatives, **NCE)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_noise_contrastive_matches_its_definition(scores, transform):
    wide = [np.float64(x) for x in scores]
    expected = reference.noise_contrastive(*wide, **NCE)
    np.testing.assert_allclose(transform(nce)(*wide), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_slope_of_noise_contrastive_is_the_posterior_of_the_noise(scores):
    positive, negatives = (np.float64(x) for x in scores)
    gradients = gradient_of(nce)(positive, negatives)
    noise = negatives.shape[1] * NCE["noise_probability"] + 1e-7
    p, p_k = (np.exp(x / 0.5) / NCE["normalizer"] for x in (positive, negatives))
    np.testing.assert_allclose(gradients[0], -noise / (p + noise) / 0.5, rtol=1e-12)
    np.testing.assert_allclose(gradients[1], p_k / (p_k + noise) / 0.5, rtol=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_noise_contrastive_is_finite_at_extreme_scores(sign):
    x = jnp.full(2, sign * 1e4), jnp.full((2, 3), -sign * 1e4)
    results = value_and_gradient_of(nce)(*x)
    assert all(np.isfinite(r).all() for r in jax.tree.leaves(results))


def test_noise_contrastive_computes_bfloat16_in_float32(scores):
    low = [jnp.asarray(x, jnp.bfloat16) for x in scores]
    value = nce(*low)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, nce(*(x.astype(jnp.float32) for x in low)))


@pytest.mark.parametrize("name", sorted(NCE))
def test_noise_contrastive_refuses_a_setting_that_is_not_positive(scores, name):
    with pytest.raises(InvalidInputError, match=f"{name} must be positive"):
        losses.noise_contrastive(*scores, **{**NCE, name: 0.0})
