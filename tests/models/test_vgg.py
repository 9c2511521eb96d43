import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_support import (
    abstract_rngs,
    assert_convolutions_start_kaiming_normal,
    assert_gradient_reaches_every_parameter,
    conv_norm,
    evaluate,
    images,
    leaves,
    max_pool,
    move_from_identity,
    names_of,
    published,
    quickly_built,
    relu,
    train,
)

from jaxkd import models
from jaxkd._errors import InvalidInputError


def construct(rngs, dtype=None, **settings):
    arguments = {"depths": (1,) * 5, "widths": (4,) * 5, "num_classes": 10}
    return models.VGG(dtype=dtype, rngs=rngs, **arguments | settings)


def tiny(dtype=None, **settings):
    return quickly_built(lambda rngs: construct(rngs, dtype, **settings))


@pytest.mark.parametrize(
    "name, count",
    [
        ("vgg8", 3_965_028),
        ("vgg11", 9_277_284),
        ("vgg13", 9_462_180),
        ("vgg16", 14_774_436),
        ("vgg19", 20_086_692),
    ],
)
def test_parameter_count_and_feature_shapes_are_the_published_ones(name, count):
    output, parameters = published(name)
    assert parameters == count
    sizes, widths = (32, 16, 8, 4, 4), (64, 128, 256, 512, 512)
    maps = [(2, s, s, c) for s, c in zip(sizes, widths, strict=True)]
    assert [stage.shape for stage in output.stages] == maps
    assert [stage.shape for stage in output.preactivations] == maps
    assert output.embedding.shape == (2, 512)
    assert output.logits.shape == (2, 100)


@pytest.mark.usefixtures("x64")
def test_network_matches_its_definition_to_the_last_digits():
    model = tiny(jnp.float64, depths=(1, 2, 1, 1, 2))
    move_from_identity(model)
    x = np.random.default_rng(0).normal(size=(2, 11, 16, 3))
    stages, preactivations = [], []
    features = x
    for i, layers in enumerate(model.stages):
        features = max_pool(features, 2) if i in (1, 2, 3) else features
        for layer in layers:
            before = conv_norm(features, layer, 1, 1)
            features = relu(before)
        stages.append(features)
        preactivations.append(before if i > 0 else features)
    embedding = features.mean((1, 2))
    head = model.classifier
    logits = embedding @ np.asarray(head.kernel[...]) + np.asarray(head.bias[...])
    expected = (logits, embedding, tuple(stages), tuple(preactivations))
    actual, _ = evaluate(model, x)
    for ours, theirs in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "shape, last",
    [((64, 64), (4, 4)), ((63, 64), (7, 8)), ((64, 100), (4, 6)), ((8, 9), (1, 1))],
)
def test_only_images_of_64_pixels_are_pooled_before_the_last_stage(shape, last):
    output, _ = jax.eval_shape(evaluate, tiny(), jnp.zeros((1, *shape, 3)))
    assert output.stages[-1].shape[1:3] == last
    pooled = min(shape) >= 64
    assert (output.stages[-2].shape == output.stages[-1].shape) == (not pooled)


def test_the_bias_of_a_convolution_is_used():
    model, x = tiny(), images(4, 8, 8, 3)
    before, _ = evaluate(model, x)
    model.stages[0][0].conv.bias[...] += 1.0
    after, _ = evaluate(model, x)
    # The running variance is still one, the epsilon under the root 1e-5.
    expected = before.preactivations[0]
    positive = np.asarray(expected > 0)
    difference = (after.preactivations[0] - expected)[positive]
    np.testing.assert_allclose(difference, 1 / np.sqrt(1 + 1e-5), rtol=1e-5)


def test_layers_have_their_published_names():
    names = ["block0.0", "block0.1", "block1.0", "block1.1", "block1.3", "block1.4"]
    names += ["block2.0", "block2.1", "block3.0", "block3.1"]
    names += ["block4.0", "block4.1", "block4.3", "block4.4", "block4.6", "block4.7"]
    assert names_of(lambda: construct(abstract_rngs(), depths=(1, 2, 1, 1, 3))) == (
        *names,
        "classifier",
    )


def test_weights_have_the_published_initialization():
    widths = (8, 8, 8, 8, 64)  # Few shapes to compile.
    model = construct(nnx.Rngs(0), widths=widths, num_classes=100)
    assert_convolutions_start_kaiming_normal(model)
    assert np.asarray(model.classifier.kernel[...]).std() == pytest.approx(
        0.01, rel=0.05
    )
    biases = [v for p, v in leaves(model, nnx.Param).items() if p.endswith("bias")]
    assert len(biases) == 11  # Convolutions, normalizations, classifier.
    assert all((bias == 0).all() for bias in biases)


def test_gradient_reaches_every_parameter():
    # In training mode the normalization takes the convolutions' biases out again.
    model = nnx.view(tiny(), use_running_average=True)
    assert_gradient_reaches_every_parameter(model, images(4, 8, 8, 3))


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    model, x = tiny(jnp.bfloat16), images(4, 8, 8, 3)
    output, _ = evaluate(model, x)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = evaluate(tiny(), x)[0].logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.05 * np.abs(reference).max()


def test_training_moves_every_running_statistic_and_no_parameter():
    model = tiny(in_channels=1)
    before = leaves(model, ...)
    _, model = train(model, images(4, 8, 8, 1))
    for path, leaf in leaves(model, ...).items():
        moved = (leaf != before[path]).any()
        assert moved == path.endswith(("mean", "var")), path


def test_too_small_images_raise():
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        tiny()(images(2, 8, 7, 3))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"depths": (1, 1, 1, 1)}, "depths must contain 5 numbers, one for each stage"),
        ({"depths": (1, 0, 1, 1, 1)}, r"depths\[1\] must be at least 1"),
        ({"widths": (4, 4, 4, 4)}, "widths must contain 5 numbers"),
        ({"widths": (4, 4, 4, 0, 4)}, r"widths\[3\] must be at least 1"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"dtype": jnp.int32}, "dtype must be"),
    ],
)
def test_errors_name_the_invalid_argument(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        construct(nnx.Rngs(0), **settings)
