import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_support import (
    abstract_rngs,
    assert_convolutions_start_kaiming_normal,
    assert_gradient_reaches_every_parameter,
    conv,
    conv_norm,
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


def construct(rngs, depth=10, widths=(4, 4, 4, 4), **settings):
    settings = {"num_classes": 10} | settings
    return models.WideResNet(depth, widths, rngs=rngs, **settings)


def tiny(*arguments, **settings):
    return quickly_built(lambda rngs: construct(rngs, *arguments, **settings))


@pytest.mark.parametrize(
    "name, count, factor",
    [
        ("wrn_16_1", 180_916, 1),
        ("wrn_16_2", 703_284, 2),
        ("wrn_40_1", 569_780, 1),
        ("wrn_40_2", 2_255_156, 2),
    ],
)
def test_parameter_count_and_feature_shapes_are_the_published_ones(name, count, factor):
    output, parameters = published(name)
    assert parameters == count
    maps = [(2, 32, 32, 16)]
    maps += [(2, 32 >> i, 32 >> i, (16 << i) * factor) for i in range(3)]
    assert [stage.shape for stage in output.stages] == maps
    assert [stage.shape for stage in output.preactivations] == maps
    assert output.embedding.shape == (2, 64 * factor)
    assert output.logits.shape == (2, 100)


def block_by_definition(x, block, stride):
    activated = relu(norm(x, block.norm))
    hidden = relu(conv_norm(activated, block.conv1, stride, 1))
    skip = x if block.skip is None else conv(activated, block.skip, stride, 0)
    return conv(hidden, block.conv2, 1, 1) + skip


@pytest.mark.parametrize("stride, out_channels", [(1, 4), (1, 5), (2, 4)])
def test_block_matches_its_definition_in_float64(stride, out_channels):
    block = quickly_built(
        lambda rngs: models.PreActivationBlock(
            4, out_channels, stride=stride, dtype=jnp.float32, rngs=rngs
        )
    )
    move_from_identity(block)
    x = images(2, 9, 8, 4)
    x64 = np.float64(x)
    (actual, normalized), _ = evaluate(block, x)
    assert (block.skip is None) == (stride == 1 and out_channels == 4)
    expected = block_by_definition(x64, block, stride)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(normalized, norm(x64, block.norm), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_network_matches_its_definition_to_the_last_digits():
    model = tiny(16, dtype=jnp.float64)
    move_from_identity(model)
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 3))
    features = conv(x, model.stem, 1, 1)
    stages, preactivations = [features], [features]
    for i, blocks in enumerate(model.stages):
        for j, block in enumerate(blocks):
            stride = 2 if i > 0 and j == 0 else 1
            features = block_by_definition(features, block, stride)
        stages.append(features)
        # The next normalization: of the next stage's first block, or the network's.
        following = model.stages[i + 1][0].norm if i < 2 else model.norm
        preactivations.append(norm(features, following))
    embedding = relu(preactivations[-1]).mean((1, 2))
    head = model.classifier
    logits = embedding @ np.asarray(head.kernel[...]) + np.asarray(head.bias[...])
    expected = (logits, embedding, tuple(stages), tuple(preactivations))
    actual, _ = evaluate(model, x)
    for ours, theirs in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_layers_have_their_published_names():
    names = ["conv1"]
    for i in (1, 2, 3):
        for j in (0, 1):
            block = f"block{i}.layer.{j}"
            names += [f"{block}.{layer}" for layer in ("bn1", "conv1", "bn2", "conv2")]
            names += [f"{block}.convShortcut"] if i > 1 and j == 0 else []
    assert names_of(lambda: construct(abstract_rngs(), 16)) == (*names, "bn1", "fc")


def test_weights_have_the_published_initialization():
    model = construct(nnx.Rngs(0), widths=(8, 8, 8, 64))
    assert_convolutions_start_kaiming_normal(model)
    kernel = np.asarray(model.classifier.kernel[...])
    assert kernel.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    assert np.abs(kernel).max() <= 1 / 8
    assert (model.classifier.bias[...] == 0).all()


def test_training_moves_every_running_statistic_by_a_tenth_once():
    model, x = tiny(), images(4, 8, 8, 3)
    output, model = train(model, x)
    last = np.float64(output.stages[-1])
    np.testing.assert_allclose(
        model.norm.mean[...], 0.1 * last.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    before_last = np.float64(output.stages[-2])
    np.testing.assert_allclose(
        model.stages[2][0].norm.mean[...],
        0.1 * before_last.mean((0, 1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_gradient_reaches_every_parameter():
    assert_gradient_reaches_every_parameter(tiny(), images(4, 8, 8, 3))


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    model, x = tiny(dtype=jnp.bfloat16), images(4, 8, 8, 3)
    output, _ = train(model, x)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = train(tiny(), x)[0].logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.05 * np.abs(reference).max()


@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (1, 9, 13, 4)])
def test_all_sizes_from_eight_and_all_numbers_of_channels_are_supported(shape):
    model = tiny(in_channels=shape[-1])
    output, _ = jax.eval_shape(evaluate, model, jnp.zeros(shape))
    assert output.stages[-1].shape[1:3] == tuple(-(-n // 4) for n in shape[1:3])


def test_too_small_images_raise():
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        tiny()(images(2, 8, 7, 3))


@pytest.mark.parametrize(
    "depth, widths, settings, message",
    [
        (14, (4, 4, 8, 16), {}, r"6n \+ 4 \(10, 16, 22, ...\), got 14"),
        (4, (4, 4, 8, 16), {}, "depth must be at least 10"),
        (10, (4, 8, 16), {}, "widths must contain 4 numbers, the stem's"),
        (10, (4, 4, 0, 16), {}, r"widths\[2\]"),
        (10, (4, 4, 8, 16), {"num_classes": 0}, "num_classes"),
        (10, (4, 4, 8, 16), {"in_channels": 0}, "in_channels"),
        (10, (4, 4, 8, 16), {"dtype": jnp.int32}, "dtype must be"),
    ],
)
def test_errors_name_the_invalid_argument(depth, widths, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        construct(nnx.Rngs(0), depth, widths, **settings)
