import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_support import quickly_built

from jaxkd import models
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import ConvNorm


def randomized(model, seed=1):
    """The model with positive numbers away from 0 and 1 added to all its variables."""
    rng = np.random.default_rng(seed)
    moved = jax.tree.map(
        lambda p: p + jnp.asarray(rng.uniform(0.1, 0.9, p.shape), p.dtype),
        nnx.state(model),
    )
    nnx.update(model, moved)
    return model


def resnet8(dtype=None):
    return quickly_built(
        lambda rngs: models.CifarResNet(
            8, (4, 4, 8, 16), num_classes=10, dtype=dtype, rngs=rngs
        )
    )


@jax.jit
def infer(model, x):
    return nnx.view(model, use_running_average=True)(x)


def images(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def deviation(actual, expected):
    """The largest difference, as a share of the largest number."""
    actual, expected = np.float64(actual), np.float64(expected)
    return np.abs(actual - expected).max() / np.abs(expected).max()


def states(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]


def test_outputs_and_feature_maps_are_unchanged_up_to_rounding():
    model, x = randomized(resnet8()), images(2, 8, 8, 3)
    before = jax.tree.leaves(infer(model, x))
    after = jax.tree.leaves(infer(models.fold_batch_norms(model), x))
    assert len(after) == len(before) == 10  # logits, embedding, twice four maps
    for ours, theirs in zip(after, before, strict=True):
        assert deviation(ours, theirs) < 1e-5


def test_no_batch_statistics_remain():
    model = models.fold_batch_norms(resnet8())
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("groups, use_bias", [(1, False), (2, True)])
def test_a_grouped_convolution_with_bias_folds_to_the_last_digits(groups, use_bias):
    settings = {"groups": groups, "use_bias": use_bias, "dtype": jnp.float64}
    layer = quickly_built(
        lambda rngs: ConvNorm(6, 12, 3, stride=2, padding=1, rngs=rngs, **settings)
    )
    randomized(layer)
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 6))
    expected = infer(layer, x)
    actual = infer(models.fold_batch_norms(layer), x)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_bfloat16_networks_fold_float32_parameters_and_are_as_accurate_as_before():
    model, x = randomized(resnet8(jnp.bfloat16)), images(8, 8, 8, 3)
    folded = models.fold_batch_norms(model)
    assert all(leaf.dtype == np.float32 for leaf in states(folded))
    exact = infer(randomized(resnet8()), x).logits
    before = deviation(infer(model, x).logits.astype(jnp.float32), exact)
    after = deviation(infer(folded, x).logits.astype(jnp.float32), exact)
    assert 0 < after < 2 * before < 0.05


def test_the_original_network_is_bit_equal():
    model = randomized(resnet8())
    before = states(model)
    models.fold_batch_norms(model)
    for ours, theirs in zip(states(model), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_folding_twice_is_folding_once():
    once = models.fold_batch_norms(randomized(resnet8()))
    again = models.fold_batch_norms(once)
    for ours, theirs in zip(states(again), states(once), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class PreActivation(nnx.Module):
    """A normalization that no convolution comes right before."""

    def __init__(self):
        self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.conv(nnx.relu(self.norm(x)))


def test_a_network_without_pairs_is_copied():
    model, x = randomized(PreActivation()), images(2, 8, 8, 3)
    folded = models.fold_batch_norms(model)
    assert folded is not model
    np.testing.assert_array_equal(infer(folded, x), infer(model, x))
    folded.conv.kernel[...] = jnp.zeros_like(folded.conv.kernel[...])
    assert model.conv.kernel[...].any()


def test_training_a_folded_network_raises():
    folded = models.fold_batch_norms(resnet8())
    with pytest.raises(InvalidInputError, match="cannot be trained"):
        folded(images(2, 8, 8, 3))


def test_converting_a_folded_network_raises():
    folded = models.fold_batch_norms(resnet8())
    with pytest.raises(InvalidInputError, match="no layers as published"):
        list(folded.torch_layers())
