import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_support import (
    abstract_rngs,
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
from jaxkd.models._channel_shuffle import channel_shuffle
from jaxkd.models._shufflenet_v1 import ShuffleBottleneck, halving_average
from jaxkd.models._shufflenet_v2 import ShuffleDownUnit, ShuffleUnit


def first(rngs, **settings):
    arguments = {"num_classes": 10, "widths": (8, 16, 24, 32), "groups": 2} | settings
    return models.ShuffleNetV1(blocks=(1, 2, 1), rngs=rngs, **arguments)


def second(rngs, **settings):
    arguments = {"num_classes": 10, "widths": (4, 8, 12, 16)} | settings
    return models.ShuffleNetV2(
        last_channels=16, blocks=(1, 2, 1), rngs=rngs, **arguments
    )


@functools.cache  # No test changes the networks.
def built(construct, **settings):
    return quickly_built(lambda rngs: construct(rngs, **settings))


both = pytest.mark.parametrize("construct", [first, second])
second_quickly = pytest.mark.parametrize(
    "construct", [pytest.param(first, marks=pytest.mark.slow), second]
)


@pytest.mark.parametrize(
    "name, parameters, widths, embedding",
    [
        ("ShuffleV1", 949_258, (24, 240, 480, 960), 960),
        ("ShuffleV2", 1_355_528, (24, 116, 232, 464), 1024),
    ],
)
def test_parameter_count_and_feature_shapes_are_the_published_ones(
    name, parameters, widths, embedding
):
    output, count = published(name)
    assert count == parameters
    shapes = [(2, s, s, c) for s, c in zip((32, 16, 8, 4), widths, strict=True)]
    assert [stage.shape for stage in output.stages] == shapes
    assert [stage.shape for stage in output.preactivations] == shapes
    assert output.embedding.shape == (2, embedding)
    assert output.logits.shape == (2, 100)


def shuffle(x, groups):
    """By the definition in the paper: channels as a matrix of groups, transposed."""
    order = np.arange(x.shape[-1]).reshape(groups, -1).T.ravel()
    return x[..., order]


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_channel_shuffle_takes_a_channel_of_each_group_in_turn(groups):
    x = images(2, 3, 2, 6)
    shuffled = channel_shuffle(x, groups=groups)
    np.testing.assert_array_equal(shuffled, shuffle(np.asarray(x), groups))
    of_each = 6 // groups
    taken = [group * of_each + i for i in range(of_each) for group in range(groups)]
    for channel, source in enumerate(taken):
        np.testing.assert_array_equal(shuffled[..., channel], x[..., source])


@pytest.mark.parametrize("size", [1, 4, 5])
def test_halving_average_treats_pixels_beyond_the_border_as_zeros(size):
    x = np.asarray(images(2, size, size, 3))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, (size + 1) // 2, (size + 1) // 2, 3))
    for i, j in np.ndindex(*expected.shape[1:3]):
        window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        expected[:, i, j] = window.sum((1, 2)) / 9
    np.testing.assert_allclose(halving_average(jnp.asarray(x)), expected, rtol=1e-5)


def conv_norm(x, layer, stride=1, groups=1):
    """Groups of channels convolved apart, then normalized by running statistics."""
    kernel = np.float64(layer.conv.kernel[...])
    parts = [
        convolve(part, of_part, stride, kernel.shape[0] // 2)
        for part, of_part in zip(
            np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True
        )
    ]
    return norm(np.concatenate(parts, axis=-1), layer.norm)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stride, first_groups", [(1, 3), (2, 3), (2, 1)])
def test_first_block_matches_its_definition_to_the_last_digits(stride, first_groups):
    out_channels = 12 if stride == 1 else 36
    block = quickly_built(
        lambda rngs: ShuffleBottleneck(
            12,
            out_channels,
            stride=stride,
            groups=3,
            first_groups=first_groups,
            dtype=jnp.float64,
            rngs=rngs,
        )
    )
    move_from_identity(block)
    x = np.random.default_rng(1).normal(size=(2, 5, 4, 12))
    y = shuffle(relu(conv_norm(x, block.conv1, groups=first_groups)), first_groups)
    y = relu(conv_norm(y, block.conv2, stride, groups=y.shape[-1]))
    y = conv_norm(y, block.conv3, groups=3)
    if stride == 1:
        expected = y + x
    else:
        expected = np.concatenate([y, halving_average(jnp.asarray(x))], axis=-1)
    actual, _ = evaluate(block, jnp.asarray(x))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def branch(x, layers, stride=1):
    y = relu(conv_norm(x, layers.conv1))
    y = conv_norm(y, layers.depthwise, stride, groups=y.shape[-1])
    return conv_norm(y, layers.conv2)


@pytest.mark.usefixtures("x64")
def test_second_blocks_match_their_definition_to_the_last_digits():
    settings = {"dtype": jnp.float64}
    down = quickly_built(lambda rngs: ShuffleDownUnit(3, 8, rngs=rngs, **settings))
    unit = quickly_built(lambda rngs: ShuffleUnit(8, rngs=rngs, **settings), seed=1)
    x = np.random.default_rng(1).normal(size=(2, 5, 4, 3))
    for block in (down, unit):
        move_from_identity(block)
    left = conv_norm(conv_norm(x, down.left1, 2, groups=3), down.left2)
    before = np.concatenate([left, branch(x, down.right, 2)], axis=-1)
    after = shuffle(relu(before), 2)
    actual, _ = evaluate(down, jnp.asarray(x))
    np.testing.assert_allclose(actual[0], after, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(actual[1], before, rtol=1e-12, atol=1e-12)

    before = np.concatenate([after[..., :4], branch(after[..., 4:], unit.branch)], -1)
    actual, _ = evaluate(unit, jnp.asarray(after))
    np.testing.assert_allclose(actual[0], shuffle(relu(before), 2), atol=1e-12)
    np.testing.assert_allclose(actual[1], before, rtol=1e-12, atol=1e-12)


@both
def test_stages_are_the_preactivations_rectified_and_in_the_second_shuffled(construct):
    output, _ = evaluate(built(construct), images(4, 16, 16, 3))
    stages, preactivations = output.stages, output.preactivations
    np.testing.assert_array_equal(stages[0], preactivations[0])
    assert (stages[0] >= 0).all()
    groups = 1 if construct is first else 2
    for stage, before in zip(stages[1:], preactivations[1:], strict=True):
        np.testing.assert_array_equal(stage, shuffle(relu(before), groups))
        assert (before < 0).any()


@both
def test_embedding_is_a_mean_over_positions_and_feeds_the_classifier(construct):
    model = built(construct)
    output, _ = evaluate(model, images(4, 16, 16, 3))
    last = np.float64(output.stages[-1])
    if construct is second:
        last = relu(conv_norm(last, model.last))
    expected = last.mean((1, 2))
    np.testing.assert_allclose(output.embedding, expected, rtol=1e-4, atol=1e-6)
    kernel, bias = model.classifier.kernel[...], model.classifier.bias[...]
    expected = np.float64(output.embedding) @ np.float64(kernel) + np.float64(bias)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-6)


def test_layers_of_the_first_have_the_published_names_in_their_order():
    names = names_of(lambda: first(abstract_rngs()))
    assert names[:4] == ("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1")
    assert names[-3:] == ("layer3.0.conv3", "layer3.0.bn3", "linear")
    assert "layer2.1.conv2" in names


def test_layers_of_the_second_have_the_published_names_in_their_order():
    names = names_of(lambda: second(abstract_rngs()))
    assert names[:4] == ("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1")
    assert names[10:14] == (
        "layer1.0.conv5",
        "layer1.0.bn5",
        "layer2.0.conv1",
        "layer2.0.bn1",
    )
    assert "layer2.1.conv3" in names
    assert names[-3:] == ("conv2", "bn2", "linear")


@second_quickly
def test_layers_start_uniform_within_the_root_of_fan_in(construct):
    for path, leaf in leaves(construct(nnx.Rngs(0)), nnx.Param).items():
        if path.endswith("kernel"):
            bound = 1 / np.sqrt(np.prod(leaf.shape[:-1]))
            assert np.abs(leaf).max() <= bound, path
            # Of the kurtosis 9/5, the standard deviation of n draws is known to this.
            tolerance = 4 * np.sqrt(0.8 / (4 * leaf.size))
            expected = pytest.approx(bound / np.sqrt(3), rel=tolerance)
            assert leaf.std() == expected, path


@second_quickly
def test_gradient_reaches_every_parameter(construct):
    assert_gradient_reaches_every_parameter(built(construct), images(8, 16, 16, 3))


@both
def test_bfloat16_computes_in_bfloat16_and_stores_float32(construct):
    model, x = built(construct, dtype=jnp.bfloat16), images(4, 16, 16, 3)
    output, _ = evaluate(model, x)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = evaluate(built(construct), x)[0].logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.1 * np.abs(reference).max()


@both
@pytest.mark.usefixtures("x64")
def test_float64_computes_and_stores_float64(construct):
    x = jnp.zeros((2, 8, 8, 3))
    outputs = jax.eval_shape(
        lambda: train(construct(abstract_rngs(), dtype=jnp.float64), x)
    )
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(outputs))


@both
def test_images_of_eight_pixels_and_all_numbers_of_channels_are_supported(construct):
    apply = lambda: construct(abstract_rngs(), in_channels=2)(jnp.zeros((1, 8, 11, 2)))
    assert jax.eval_shape(apply).stages[-1].shape[:3] == (1, 1, 2)


@both
@pytest.mark.parametrize("shape", [(2, 7, 8, 3), (2, 8, 7, 3)])
def test_too_small_images_raise(construct, shape):
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        built(construct)(images(*shape))


@pytest.mark.parametrize(
    "construct, settings, message",
    [
        (first, {"widths": (8, 16, 24)}, "widths must contain 4 numbers"),
        (first, {"widths": (8, 16, 28, 36)}, r"multiples of 4 \* groups = 8, got 28"),
        (first, {"widths": (4, 16, 24, 32)}, "got 16 and 4"),
        (first, {"widths": (8, 8, 16, 24)}, "got 8 and 8"),
        (first, {"groups": 0}, "groups"),
        (first, {"num_classes": 0}, "num_classes"),
        (second, {"widths": (4, 8, 16)}, "widths must contain 4 numbers"),
        (second, {"widths": (4, 8, 15, 16)}, "even"),
        (second, {"in_channels": 0}, "in_channels"),
        (second, {"dtype": jnp.int32}, "dtype must be"),
    ],
)
def test_errors_name_the_invalid_argument(construct, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        construct(nnx.Rngs(0), **settings)
