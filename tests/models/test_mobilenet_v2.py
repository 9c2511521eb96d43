import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_support import (
    abstract_rngs,
    assert_convolutions_start_kaiming_normal,
    assert_gradient_reaches_every_parameter,
    convolve,
    evaluate,
    images,
    leaves,
    move_from_identity,
    names_of,
    norm,
    published,
    quickly_built,
    relu,
    train,
)

from jaxkd import models
from jaxkd._errors import InvalidInputError


def construct(rngs, stem=4, last=64, **settings):
    """One block per group, but two in the second, for its skip connection."""
    arguments = {"num_classes": 10, "blocks": (1, 2, 1, 1, 1, 1, 1)} | settings
    return models.MobileNetV2(stem, last, rngs=rngs, **arguments)


@functools.cache  # No test changes it.
def tiny(**settings):
    return quickly_built(lambda rngs: construct(rngs, **settings))


def test_parameter_count_and_feature_shapes_are_the_published_ones():
    output, parameters = published("MobileNetV2")
    assert parameters == 812_836
    maps = [(16, 16), (16, 12), (8, 16), (4, 48), (2, 160)]
    shapes = [(2, size, size, channels) for size, channels in maps]
    assert [stage.shape for stage in output.stages] == shapes
    assert [stage.shape for stage in output.preactivations] == shapes
    assert output.embedding.shape == (2, 1280)
    assert output.logits.shape == (2, 100)


def conv_norm(x, layer, stride=1):
    kernel = np.float64(layer.conv.kernel[...])
    return norm(convolve(x, kernel, stride, kernel.shape[0] // 2), layer.norm)


def depthwise_conv_norm(x, layer, stride):
    """Each channel alone with its kernel."""
    kernel = np.float64(layer.conv.kernel[...])
    channels = [
        convolve(x[..., [c]], kernel[..., [c]], stride, 1) for c in range(x.shape[-1])
    ]
    return norm(np.concatenate(channels, axis=-1), layer.norm)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride, out_channels", [(1, 3), (1, 4), (2, 3)])
def test_block_matches_its_definition_to_the_last_digits(stride, out_channels):
    settings = {"stride": stride, "expansion": 2, "dtype": jnp.float64}
    block = quickly_built(
        lambda rngs: models.InvertedResidual(3, out_channels, rngs=rngs, **settings)
    )
    move_from_identity(block)
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 3))
    inner = relu(conv_norm(x, block.expand))
    inner = relu(depthwise_conv_norm(inner, block.depthwise, stride))
    expected = conv_norm(inner, block.project)
    if (stride, out_channels) == (1, 3):
        expected = expected + x
    actual, _ = evaluate(block, jnp.asarray(x))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_stages_have_no_activation_but_the_stem_and_equal_the_preactivations():
    output, _ = evaluate(tiny(), images(4, 16, 16, 3))
    for stage, before in zip(output.stages, output.preactivations, strict=True):
        np.testing.assert_array_equal(stage, before)
    stem, *groups = output.stages
    assert (stem >= 0).all()
    assert all((stage < 0).any() for stage in groups)


def test_embedding_is_the_mean_of_the_last_convolution_and_feeds_the_classifier():
    model = tiny()
    output, _ = evaluate(model, images(4, 16, 16, 3))
    last = relu(conv_norm(np.float64(output.stages[-1]), model.last))
    expected = last.mean((1, 2))
    np.testing.assert_allclose(output.embedding, expected, rtol=1e-4, atol=1e-6)
    kernel, bias = model.classifier.kernel[...], model.classifier.bias[...]
    expected = np.float64(output.embedding) @ np.float64(kernel) + np.float64(bias)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-6)


def test_layers_have_the_published_names_in_their_order():
    names = names_of(lambda: construct(abstract_rngs()))
    assert names[:4] == ("conv1.0", "conv1.1", "blocks.0.0.conv.0", "blocks.0.0.conv.1")
    assert names[4:8] == tuple(f"blocks.0.0.conv.{i}" for i in (3, 4, 6, 7))
    assert names[14:16] == ("blocks.1.1.conv.0", "blocks.1.1.conv.1")
    assert names[-3:] == ("conv2.0", "conv2.1", "classifier.0")


@pytest.mark.slow
def test_convolutions_start_kaiming_normal_and_the_classifier_near_zero():
    model = construct(nnx.Rngs(0))
    assert_convolutions_start_kaiming_normal(model)
    assert model.classifier.kernel[...].std() == pytest.approx(0.01, rel=0.12)
    assert (model.classifier.bias[...] == 0).all()


@pytest.mark.slow
def test_gradient_reaches_every_parameter():
    assert_gradient_reaches_every_parameter(tiny(), images(8, 16, 16, 3))


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    model, x = tiny(dtype=jnp.bfloat16), images(4, 16, 16, 3)
    output, _ = evaluate(model, x)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = evaluate(tiny(), x)[0].logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.1 * np.abs(reference).max()


@pytest.mark.usefixtures("x64")
def test_float64_computes_and_stores_float64():
    x = jnp.zeros((2, 8, 8, 3))
    outputs = jax.eval_shape(
        lambda: train(construct(abstract_rngs(), dtype=jnp.float64), x)
    )
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(outputs))


def test_images_of_eight_pixels_and_all_numbers_of_channels_are_supported():
    apply = lambda: construct(abstract_rngs(), in_channels=2)(jnp.zeros((1, 8, 11, 2)))
    assert jax.eval_shape(apply).stages[-1].shape == (1, 1, 1, 40)


@pytest.mark.parametrize("shape", [(2, 7, 8, 3), (2, 8, 7, 3)])
def test_too_small_images_raise(shape):
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        tiny()(images(*shape))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"stem": 0}, "stem_channels"),
        ({"last": 0}, "last_channels"),
        ({"blocks": (1, 1)}, "blocks must contain 7 numbers"),
        ({"blocks": (1, 0, 1, 1, 1, 1, 1)}, r"blocks\[1\]"),
        ({"num_classes": 0}, "num_classes"),
        ({"dtype": jnp.int32}, "dtype must be"),
    ],
)
def test_errors_name_the_invalid_argument(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        construct(nnx.Rngs(0), **settings)
