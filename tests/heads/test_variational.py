import numpy as np
import pytest
from feature_support import built
from flax import nnx

from jaxkd import heads
from jaxkd._errors import InvalidInputError


def test_the_mean_is_three_maps_of_the_channels_with_relu_between():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    module = built(lambda rngs: heads.VariationalRegressor(5, 6, rngs=rngs))
    assert all(conv.bias is None for conv in module.convs)
    first, second, third = (np.float64(c.kernel[...])[0, 0] for c in module.convs)
    expected = np.maximum(np.maximum(x @ first, 0) @ second, 0) @ third
    np.testing.assert_allclose(
        nnx.jit(lambda m, x: m(x))(module, x), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("variance", [5.0, 0.1, 1000])
def test_variances_have_the_given_initial_value(variance):
    module = heads.VariationalRegressor(
        2, 3, initial_variance=variance, rngs=nnx.Rngs(0)
    )
    scale = np.float64(module.log_scale[...])
    assert scale.shape == (3,)
    np.testing.assert_allclose(np.logaddexp(0, scale) + 1e-5, variance, rtol=1e-5)


def test_variances_are_five_initially():
    scale = np.float64(heads.VariationalRegressor(2, 3, rngs=nnx.Rngs(0)).log_scale)
    np.testing.assert_allclose(np.logaddexp(0, scale) + 1e-5, 5.0, rtol=1e-6)


def test_weights_start_uniform_within_one_over_the_root_of_the_inputs():
    module = built(lambda rngs: heads.VariationalRegressor(50, 80, rngs=rngs))
    for conv, inputs in zip(module.convs, (50, 80, 80), strict=True):
        limit = 1 / np.sqrt(inputs)
        assert 0.99 * limit < np.abs(conv.kernel[...]).max() <= limit


@pytest.mark.parametrize("variance", [0.0, 1e-6, -1.0, np.inf])
def test_an_impossible_variance_raises(variance):
    with pytest.raises(InvalidInputError, match="initial_variance must be"):
        heads.VariationalRegressor(2, 3, initial_variance=variance, rngs=nnx.Rngs(0))
