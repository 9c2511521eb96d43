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
    published,
    quickly_built,
    train,
)

from jaxkd import models
from jaxkd._errors import InvalidInputError

PARAMETERS = {  # as published, 100 classes, RGB
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
}


def construct(rngs, channels=3, dtype=None, widths=(4, 4, 4, 4)):
    return models.CifarResNet(
        8, widths, num_classes=10, in_channels=channels, dtype=dtype, rngs=rngs
    )


def tiny(**settings):
    return quickly_built(lambda rngs: construct(rngs, **settings))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_and_feature_shapes_are_the_published_ones(name):
    output, parameters = published(name)
    assert parameters == PARAMETERS[name]
    stem, *widths = (32, 64, 128, 256) if name.endswith("x4") else (16, 16, 32, 64)
    maps = [(2, 32, 32, stem)]
    maps += [(2, s, s, c) for s, c in zip((32, 16, 8), widths, strict=True)]
    assert [stage.shape for stage in output.stages] == maps
    assert [stage.shape for stage in output.preactivations] == maps
    assert output.embedding.shape == (2, widths[-1])
    assert output.logits.shape == (2, 100)


def test_stages_are_the_rectified_preactivations():
    output, _ = train(tiny(), images(2, 8, 8, 3))
    for stage, before in zip(output.stages, output.preactivations, strict=True):
        np.testing.assert_array_equal(stage, np.maximum(before, 0))
    assert all((before < 0).any() for before in output.preactivations[1:])


def test_preactivation_of_the_stem_is_its_activation_as_published():
    output, _ = train(tiny(), images(2, 8, 8, 3))
    np.testing.assert_array_equal(output.preactivations[0], output.stages[0])


def test_embedding_is_the_mean_of_the_last_stage_and_feeds_the_classifier():
    model = tiny()
    output, _ = train(model, images(2, 8, 8, 3))
    last = np.asarray(output.stages[-1], np.float64)
    np.testing.assert_allclose(output.embedding, last.mean((1, 2)), rtol=1e-6)
    kernel, bias = model.classifier.kernel[...], model.classifier.bias[...]
    expected = np.float64(output.embedding) @ np.float64(kernel) + np.float64(bias)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-6)


def test_evaluation_changes_no_state():
    model = tiny()
    before = leaves(model, ...)
    _, model = evaluate(model, images(2, 8, 8, 3))
    after = leaves(model, ...)
    assert all((before[path] == after[path]).all() for path in before)


def test_evaluation_is_independent_for_each_example():
    model, x = tiny(), images(2, 8, 8, 3)
    together, _ = evaluate(model, x)
    alone, _ = evaluate(model, x.at[1].set(0.0))
    np.testing.assert_array_equal(together.logits[0], alone.logits[0])
    assert (together.logits[1] != alone.logits[1]).any()


def test_training_moves_every_running_statistic_and_no_parameter():
    model = tiny()
    params, statistics = leaves(model, nnx.Param), leaves(model, nnx.BatchStat)
    _, model = train(model, images(2, 8, 8, 3))
    moved = leaves(model, nnx.BatchStat)
    assert all((moved[path] != statistics[path]).any() for path in statistics)
    assert all(
        (leaves(model, nnx.Param)[path] == params[path]).all() for path in params
    )


def test_running_statistics_take_a_tenth_of_the_batch():
    model = tiny()
    x = images(2, 8, 8, 3)
    kernel = np.asarray(model.stem.conv.kernel[...], np.float64)
    activations = convolve(np.asarray(x, np.float64), kernel, 1, 1)
    _, model = train(model, x)
    mean, var = model.stem.norm.mean[...], model.stem.norm.var[...]
    np.testing.assert_allclose(mean, 0.1 * activations.mean((0, 1, 2)), atol=1e-6)
    expected = 0.9 + 0.1 * activations.var((0, 1, 2))
    np.testing.assert_allclose(var, expected, rtol=1e-5)


def test_convolutions_start_kaiming_normal_with_fan_out():
    model = construct(nnx.Rngs(0), widths=(32, 32, 32, 64))
    assert_convolutions_start_kaiming_normal(model)


def test_batch_norms_start_as_the_identity():
    model = construct(nnx.Rngs(0))
    for path, leaf in leaves(model, ...).items():
        if "norm" in path:
            start = 1.0 if path.endswith(("scale", "var")) else 0.0
            assert (leaf == start).all(), path


def test_classifier_starts_uniform_within_the_root_of_fan_in():
    model = construct(nnx.Rngs(0), widths=(4, 4, 4, 64))
    bound = 1 / 8
    for leaf in (model.classifier.kernel, model.classifier.bias):
        values = np.asarray(leaf[...])
        assert np.abs(values).max() <= bound
        assert values.min() < -bound / 2
        assert values.max() > bound / 2
    std = np.asarray(model.classifier.kernel[...]).std()
    assert std == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_gradient_reaches_every_parameter():
    assert_gradient_reaches_every_parameter(tiny(), images(2, 8, 8, 3))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_16_bit_dtypes_compute_in_16_bits_and_store_float32(dtype):
    model = tiny(dtype=dtype)
    x = images(2, 8, 8, 3)
    output, _ = train(model, x)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = train(tiny(), x)[0].logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.05 * np.abs(reference).max()


@pytest.mark.usefixtures("x64")
def test_float64_computes_and_stores_float64_throughout():
    model = tiny(dtype=jnp.float64)
    output, model = train(model, images(2, 8, 8, 3))
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float64 for leaf in leaves(model, ...).values())
    # A float32 statistic would be a float32 number.
    for path, leaf in leaves(model, nnx.BatchStat).items():
        assert (leaf != leaf.astype(np.float32)).any(), path
    output, _ = evaluate(model, images(2, 8, 8, 3))
    assert output.logits.dtype == np.float64


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
def test_enabling_x64_does_not_change_the_dtypes(dtype):
    model = jax.eval_shape(lambda: nnx.state(construct(abstract_rngs(), dtype=dtype)))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(model))


def test_bfloat16_gradients_are_float32():
    model = tiny(dtype=jnp.bfloat16)
    x = images(2, 8, 8, 3)
    grads = jax.eval_shape(
        nnx.grad(lambda m: m(x).logits.astype(jnp.float32).sum()), model
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (1, 9, 13, 1)])
def test_all_sizes_from_eight_and_all_numbers_of_channels_are_supported(shape):
    output, _ = evaluate(tiny(channels=shape[-1]), images(*shape))
    halved = [-(-n // 4) for n in shape[1:3]]
    assert list(output.stages[-1].shape[1:3]) == halved
    assert np.isfinite(output.logits).all()


def test_jit_agrees_with_eager():
    model, x = tiny(), images(2, 8, 8, 3)
    eager = nnx.view(model, use_running_average=True)(x)
    compiled, _ = evaluate(model, x)
    for ours, theirs in zip(
        jax.tree.leaves(compiled), jax.tree.leaves(eager), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_same_seed_gives_the_same_network():
    ours, theirs = (leaves(construct(nnx.Rngs(0)), ...) for _ in range(2))
    assert all((ours[path] == theirs[path]).all() for path in ours)


@pytest.mark.parametrize("shape", [(2, 7, 8, 3), (2, 8, 7, 3)])
def test_too_small_images_raise(shape):
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        tiny()(images(*shape))


def test_wrong_number_of_channels_raises():
    with pytest.raises(InvalidInputError, match=r"height, width, 3\], got"):
        tiny()(images(2, 8, 8, 1))


def test_integer_images_raise():
    with pytest.raises(TypeError):
        tiny()(jnp.zeros((2, 8, 8, 3), jnp.uint8))


@pytest.mark.parametrize(
    "depth, widths, settings, message",
    [
        (10, (4, 4, 8, 16), {}, "6n"),
        (2, (4, 4, 8, 16), {}, "at least 8"),
        (8, (4, 8, 16), {}, r"widths must contain 4"),
        (8, (4, 4, 0, 16), {}, r"widths\[2\]"),
        (8, (4, 4, 8, 16), {"num_classes": 0}, "num_classes"),
        (8, (4, 4, 8, 16), {"in_channels": 0}, "in_channels"),
        (8, (4, 4, 8, 16), {"dtype": jnp.int32}, "dtype must be"),
        (8, (4, 4, 8, 16), {"dtype": jnp.float64}, "float64 needs jax_enable_x64"),
    ],
)
def test_errors_name_the_invalid_argument(depth, widths, settings, message):
    arguments = {"num_classes": 10, "rngs": nnx.Rngs(0)} | settings
    with pytest.raises(InvalidInputError, match=message):
        models.CifarResNet(depth, widths, **arguments)
