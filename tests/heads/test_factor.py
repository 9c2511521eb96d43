import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from feature_support import built
from flax import nnx

from jaxkd import heads
from jaxkd._errors import InvalidInputError


def by_definition(layers, x, *, normalize):
    """3x3 convolutions with zero padding, normalization and leaky ReLU."""
    for i, conv in enumerate(layers.convs):
        kernel = np.float64(conv.kernel[...])
        bias = 0.0 if normalize else np.float64(conv.bias[...])
        y = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
        for b, c, d in np.ndindex(len(x), *kernel.shape[2:]):
            y[b, ..., d] += scipy.signal.correlate2d(
                x[b, ..., c], kernel[..., c, d], mode="same"
            )
        if normalize:
            norm = layers.norms[i]
            mean, variance = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
            y = (y - mean) / np.sqrt(variance + norm.epsilon)
        x = np.where(y > 0, y, 0.1 * y)
    return x


def apply(module, x, method="__call__"):
    return nnx.jit(lambda module, x: getattr(module, method)(x))(module, x)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("normalize", [False, True])
def test_the_paraphraser_encodes_and_decodes_by_its_layers(x, normalize):
    module = built(lambda rngs: heads.Paraphraser(6, normalize=normalize, rngs=rngs))
    code = by_definition(module.encoder, np.float64(x), normalize=normalize)
    np.testing.assert_allclose(apply(module, x, "encode"), code, rtol=1e-3, atol=1e-5)
    decoded = by_definition(module.decoder, code, normalize=normalize)
    np.testing.assert_allclose(apply(module, x), decoded, rtol=1e-3, atol=1e-5)


def test_the_translator_normalizes(x):
    module = built(lambda rngs: heads.Translator(6, 4, rngs=rngs))
    expected = by_definition(module.encoder, np.float64(x), normalize=True)
    np.testing.assert_allclose(apply(module, x), expected, rtol=1e-3, atol=1e-5)


def widths(layers):
    return [conv.kernel.shape for conv in layers.convs]


@pytest.mark.parametrize("rate, factor", [(0.5, 3), (0.75, 5), (2, 14)])
def test_widths_follow_the_rate(rate, factor):
    module = built(lambda rngs: heads.Paraphraser(7, rate=rate, rngs=rngs))
    shapes = lambda *pairs: [(3, 3, *pair) for pair in pairs]
    assert widths(module.encoder) == shapes((7, 7), (7, factor), (factor, factor))
    assert widths(module.decoder) == shapes((factor, factor), (factor, 7), (7, 7))
    assert not nnx.state(module, nnx.BatchStat)


def test_the_layers_start_uniform_within_their_fan():
    module = built(lambda rngs: heads.Paraphraser(60, rngs=rngs))
    # A convolution counts its inputs, a transposed one its outputs.
    for layers, axis in ((module.encoder, 2), (module.decoder, 3)):
        for conv in layers.convs:
            limit = 1 / np.sqrt(9 * conv.kernel.shape[axis])
            assert 0.99 * limit < np.abs(conv.kernel[...]).max() <= limit


def test_every_parameter_of_the_paraphraser_has_a_gradient(x):
    module = built(lambda rngs: heads.Paraphraser(6, rngs=rngs))
    graph, params = nnx.split(module)
    loss = lambda p: jnp.mean(jnp.square(nnx.merge(graph, p)(x) - x))
    gradients = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
    assert len(gradients) == 12
    assert all(np.any(g) for g in gradients)


@pytest.mark.usefixtures("x64")
def test_float64_stays_float64(x):
    module = built(lambda rngs: heads.Translator(6, 4, dtype=jnp.float64, rngs=rngs))
    assert apply(module, np.float64(x)).dtype == jnp.float64
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(module))} == {
        np.dtype("float64")
    }


@pytest.mark.parametrize(
    "rate, message",
    [(0.1, "factor of 6 channels has no channel"), (0.0, "rate must be positive")],
)
def test_a_rate_that_leaves_no_channels_raises(rate, message):
    with pytest.raises(InvalidInputError, match=message):
        built(lambda rngs: heads.Paraphraser(6, rate=rate, rngs=rngs))
