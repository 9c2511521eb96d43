import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import heads
from jaxkd._errors import InvalidInputError
from jaxkd.heads._fusion import resize_nearest


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def normalize(y):
    """Batch normalization as it starts."""
    mean, variance = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
    return (y - mean) / np.sqrt(variance + 1e-5)


def resize(x, height, width):
    """Nearest neighbors, position by position."""
    rows = [i * x.shape[1] // height for i in range(height)]
    columns = [j * x.shape[2] // width for j in range(width)]
    return x[:, rows][:, :, columns]


def convolve3(x, kernel):
    """A 3x3 convolution by its definition."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = x.shape[1:3]
    return sum(
        padded[:, i : i + h, j : j + w] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )


def weights_of(conv):
    return np.float64(conv.kernel[...])


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (8, 4), (2, 2), (3, 5)])
def test_fusion_is_attention_then_convolution(fuse, size):
    fusion = heads.AttentionFusion(3, 6, 5, fuse=fuse, rngs=nnx.Rngs(0))
    x, residual = draw(2, 4, 4, 3), draw(2, 2, 2, 6, seed=1)
    compared, passed = fusion(x, jnp.asarray(residual) if fuse else None, size)
    expected = normalize(np.float64(x) @ weights_of(fusion.conv_in)[0, 0])
    if fuse:
        resized = resize(np.float64(residual), 4, 4)
        both = np.concatenate([expected, resized], axis=-1)
        scores = both @ weights_of(fusion.attention)[0, 0]
        a, b = np.moveaxis(
            1 / (1 + np.exp(-scores - np.float64(fusion.attention.bias[...]))), -1, 0
        )
        expected = a[..., None] * expected + b[..., None] * resized
    expected = resize(expected, *size)
    np.testing.assert_allclose(passed, expected, rtol=1e-4, atol=1e-5)
    expected = normalize(convolve3(expected, weights_of(fusion.conv_out)))
    np.testing.assert_allclose(compared, expected, rtol=1e-4, atol=1e-4)


def test_the_connector_is_a_normalized_linear_map():
    connector = heads.Connector(3, 5, rngs=nnx.Rngs(0))
    x = draw(2, 4, 4, 3)
    expected = normalize(np.float64(x) @ weights_of(connector.conv)[0, 0])
    np.testing.assert_allclose(connector(x), expected, rtol=1e-4, atol=1e-5)


def test_connectors_start_with_the_published_deviation():
    kernel = weights_of(heads.Connector(300, 200, rngs=nnx.Rngs(0)).conv)
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / 200), rtol=0.02)


def test_fusions_start_uniform_with_one_over_the_inputs_as_variance():
    fusion = heads.AttentionFusion(100, 60, 80, rngs=nnx.Rngs(0))
    for conv, inputs in ((fusion.conv_in, 100), (fusion.conv_out, 9 * 60)):
        kernel = weights_of(conv)
        np.testing.assert_allclose(kernel.var(), 1 / inputs, rtol=0.05)
        assert np.abs(kernel).max() <= np.sqrt(3 / inputs)


@pytest.mark.usefixtures("x64")
def test_heads_in_float64_stay_float64():
    x = jnp.asarray(draw(2, 4, 4, 3), jnp.float64)
    connector = heads.Connector(3, 5, dtype=jnp.float64, rngs=nnx.Rngs(0))
    assert connector(x).dtype == jnp.float64
    make = lambda: heads.AttentionFusion(
        3, 6, 5, fuse=False, dtype=jnp.float64, rngs=nnx.Rngs(0)
    )
    compared, passed = jax.eval_shape(lambda: make()(x, None, (4, 4)))
    assert compared.dtype == passed.dtype == jnp.float64


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (6, 8), (5, 7)])
def test_resizing_takes_the_nearest_position(size):
    x = draw(2, 3, 4, 2)
    np.testing.assert_array_equal(
        resize_nearest(jnp.asarray(x), size), resize(x, *size)
    )


def test_no_channels_raise():
    with pytest.raises(InvalidInputError, match="mid_channels must be at least 1"):
        heads.AttentionFusion(3, 0, 5, rngs=nnx.Rngs(0))
    with pytest.raises(InvalidInputError, match="out_channels must be at least 1"):
        heads.Connector(3, 0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("fuse", [True, False])
def test_a_residual_must_be_given_if_and_only_if_it_is_fused(fuse):
    fusion = heads.AttentionFusion(3, 6, 5, fuse=fuse, rngs=nnx.Rngs(0))
    residual = None if fuse else jnp.ones((2, 4, 4, 6))
    with pytest.raises(InvalidInputError, match="if and only if fuse is True"):
        fusion(draw(2, 4, 4, 3), residual, (4, 4))
