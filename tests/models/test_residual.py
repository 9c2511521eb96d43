import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_support import (
    conv_norm,
    evaluate,
    images,
    move_from_identity,
    quickly_built,
    relu,
)

from jaxkd import models
from jaxkd._errors import InvalidInputError


@pytest.mark.parametrize("stride, out_channels", [(1, 4), (1, 5), (2, 5)])
def test_basic_block_matches_its_definition_in_float64(stride, out_channels):
    settings = {"stride": stride, "dtype": jnp.float32}
    block = quickly_built(
        lambda rngs: models.BasicBlock(4, out_channels, rngs=rngs, **settings)
    )
    move_from_identity(block)
    x = images(2, 9, 8, 4)

    x64 = np.asarray(x, np.float64)
    hidden = np.maximum(conv_norm(x64, block.conv1, stride, 1), 0)
    skip = x64 if block.skip is None else conv_norm(x64, block.skip, stride, 0)
    expected = conv_norm(hidden, block.conv2, 1, 1) + skip

    assert (block.skip is None) == (stride == 1 and out_channels == 4)
    actual, _ = evaluate(block, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride, out_channels", [(1, 8), (1, 12), (2, 8)])
def test_bottleneck_matches_its_definition_in_float64(stride, out_channels):
    settings = {"stride": stride, "dtype": jnp.float32}
    block = quickly_built(
        lambda rngs: models.Bottleneck(8, out_channels, rngs=rngs, **settings)
    )
    move_from_identity(block)
    x = images(2, 9, 8, 8)

    x64 = np.asarray(x, np.float64)
    narrow = relu(conv_norm(x64, block.conv1, 1, 0))
    narrow = relu(conv_norm(narrow, block.conv2, stride, 1))
    skip = x64 if block.skip is None else conv_norm(x64, block.skip, stride, 0)
    expected = conv_norm(narrow, block.conv3, 1, 0) + skip

    assert narrow.shape[-1] == out_channels // 4
    assert (block.skip is None) == (stride == 1 and out_channels == 8)
    actual, _ = evaluate(block, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_a_float64_block_matches_its_definition_to_the_last_digits():
    settings = {"stride": 2, "dtype": jnp.float64}
    block = quickly_built(lambda rngs: models.BasicBlock(4, 5, rngs=rngs, **settings))
    move_from_identity(block)
    x = np.random.default_rng(1).normal(size=(2, 9, 8, 4))
    hidden = np.maximum(conv_norm(x, block.conv1, 2, 1), 0)
    expected = conv_norm(hidden, block.conv2, 1, 1) + conv_norm(x, block.skip, 2, 0)
    actual, _ = evaluate(block, x)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_bottleneck_whose_channels_are_not_a_multiple_of_four_raises():
    with pytest.raises(InvalidInputError, match="multiple of 4, got 6"):
        models.Bottleneck(8, 6, dtype=jnp.float32, rngs=nnx.Rngs(0))
