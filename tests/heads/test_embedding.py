import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference import holistic as reference

from jaxkd import heads
from jaxkd._errors import InvalidInputError


def layer(module):
    return {
        "kernel": np.float64(module.linear.kernel[...]),
        "bias": np.float64(module.linear.bias[...]),
    }


@pytest.mark.parametrize("transform", [lambda m: m, nnx.jit])
def test_embedding_matches_its_definition(transform):
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    module = heads.Embedding(6, 4, rngs=nnx.Rngs(0))
    expected = reference.embed(layer(module), np.float64(x))
    np.testing.assert_allclose(transform(module)(x), expected, rtol=1e-5)


def test_embedding_without_normalization_is_linear():
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    module = heads.Embedding(6, 4, normalize=False, rngs=nnx.Rngs(0))
    expected = x @ layer(module)["kernel"] + layer(module)["bias"]
    np.testing.assert_allclose(module(x), expected, rtol=1e-5, atol=1e-6)


def test_parameters_start_uniform_within_one_over_the_root_of_the_inputs():
    module = heads.Embedding(100, 400, rngs=nnx.Rngs(0))
    for values in layer(module).values():
        assert np.abs(values).max() <= 0.1
        # A uniform law on ±0.1: extremes near the ends, mean 0, deviation 0.1/√3.
        assert values.max() > 0.099
        assert values.min() < -0.099
        assert abs(values.mean()) < 5 * 0.1 / np.sqrt(3 * values.size)
        np.testing.assert_allclose(values.std(), 0.1 / np.sqrt(3), rtol=0.05)


def test_an_embedding_of_zero_stays_zero_with_a_finite_gradient():
    module = heads.Embedding(3, 2, rngs=nnx.Rngs(0))
    module.linear.bias[...] = jnp.zeros(2)
    x = jnp.zeros((1, 3))
    np.testing.assert_array_equal(module(x), 0.0)
    assert np.isfinite(jax.grad(lambda x: module(x).sum())(x)).all()


def test_bfloat16_features_give_a_float32_embedding():
    x = jnp.ones((2, 3), jnp.bfloat16)
    module = heads.Embedding(3, 2, rngs=nnx.Rngs(0))
    assert module(x).dtype == jnp.float32
    np.testing.assert_array_equal(module(x), module(x.astype(jnp.float32)))


@pytest.mark.parametrize("widths", [(0, 4), (4, 0)])
def test_widths_must_be_positive(widths):
    with pytest.raises(InvalidInputError, match="must be at least 1, got 0"):
        heads.Embedding(*widths, rngs=nnx.Rngs(0))


def test_integer_features_raise():
    module = heads.Embedding(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="x must be floating point"):
        inspect.unwrap(heads.Embedding.__call__)(module, jnp.ones((1, 3), int))
