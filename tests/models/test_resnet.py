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
    move_from_identity,
    names_of,
    published,
    quickly_built,
    relu,
    train,
)

from jaxkd import models
from jaxkd._errors import InvalidInputError


def construct(rngs, small_images=True, block=models.BasicBlock, **settings):
    arguments = {"depths": (1, 1, 1, 1), "widths": (4, 4, 4, 4, 4), "num_classes": 10}
    return models.ResNet(
        block, small_images=small_images, rngs=rngs, **arguments | settings
    )


def tiny(*arguments, **settings):
    return quickly_built(lambda rngs: construct(rngs, *arguments, **settings))


def test_cifar_resnet50_has_the_published_parameters_and_shapes():
    output, parameters = published("ResNet50")
    assert parameters == 23_705_252
    maps = [(2, 32, 32, 64), (2, 32, 32, 256)]
    maps += [(2, 16, 16, 512), (2, 8, 8, 1024), (2, 4, 4, 2048)]
    assert [stage.shape for stage in output.stages] == maps
    assert [stage.shape for stage in output.preactivations] == maps
    assert output.embedding.shape == (2, 2048)
    assert output.logits.shape == (2, 100)


@pytest.mark.parametrize(
    "name, count, expansion",
    [
        ("resnet18", 11_689_512, 1),
        ("resnet34", 21_797_672, 1),
        ("resnet50", 25_557_032, 4),
    ],
)
def test_imagenet_resnets_have_the_published_parameters_and_shapes(
    name, count, expansion
):
    output, parameters = published(name, size=224, classes=1000)
    assert parameters == count
    maps = [(2, 56, 56, 64)]
    maps += [(2, 56 >> i, 56 >> i, (64 << i) * expansion) for i in range(4)]
    assert [stage.shape for stage in output.stages] == maps
    assert [stage.shape for stage in output.preactivations] == maps
    assert output.embedding.shape == (2, 512 * expansion)
    assert output.logits.shape == (2, 1000)


def test_stages_are_the_rectified_preactivations_and_the_stem_is_activated():
    output, _ = train(tiny(), images(4, 8, 8, 3))
    for stage, before in zip(output.stages, output.preactivations, strict=True):
        np.testing.assert_array_equal(stage, relu(before))
    assert (output.preactivations[0] >= 0).all()
    assert all((before < 0).any() for before in output.preactivations[1:])


def test_embedding_is_the_mean_of_the_last_stage_and_feeds_the_classifier():
    model = tiny()
    output, _ = train(model, images(4, 8, 8, 3))
    last = np.float64(output.stages[-1])
    np.testing.assert_allclose(output.embedding, last.mean((1, 2)), rtol=1e-6)
    kernel, bias = model.classifier.kernel[...], model.classifier.bias[...]
    expected = np.float64(output.embedding) @ np.float64(kernel) + np.float64(bias)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-6)


def test_stem_for_large_images_strides_twice_by_its_definition():
    model = tiny(small_images=False)
    move_from_identity(model.stem)
    x = images(2, 17, 14, 3)
    hidden = relu(conv_norm(np.float64(x), model.stem, 2, 3))
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = windows[:, ::2, ::2].max((-1, -2))
    assert expected.shape == (2, 5, 4, 4)
    output, _ = evaluate(model, x)
    np.testing.assert_allclose(output.stages[0], expected, rtol=1e-4, atol=1e-5)


def test_stem_for_small_images_keeps_the_resolution_by_its_definition():
    model = tiny()
    move_from_identity(model.stem)
    x = images(4, 8, 8, 3)
    expected = relu(conv_norm(np.float64(x), model.stem, 1, 1))
    output, _ = evaluate(model, x)
    np.testing.assert_allclose(output.stages[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("small_images", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8, 1), (1, 33, 50, 4)])
def test_all_sizes_from_eight_and_all_numbers_of_channels_are_supported(
    small_images, shape
):
    model = tiny(small_images, in_channels=shape[-1])
    output, _ = jax.eval_shape(evaluate, model, jnp.zeros(shape))
    stride = 8 if small_images else 32
    assert output.stages[-1].shape[1:3] == tuple(-(-n // stride) for n in shape[1:3])


def test_layers_have_their_published_names_for_large_images():
    settings = {"widths": (4, 4, 8, 8, 8), "depths": (1, 2, 1, 1)}
    names = ["conv1", "bn1"]
    for block in ("layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0"):
        names += [f"{block}.{layer}" for layer in ("conv1", "bn1", "conv2", "bn2")]
        if block in ("layer2.0", "layer3.0", "layer4.0"):
            names += [f"{block}.downsample.0", f"{block}.downsample.1"]
    assert names_of(lambda: construct(abstract_rngs(), False, **settings)) == (
        *names,
        "fc",
    )


def test_layers_have_their_published_names_for_small_images():
    names = ["conv1", "bn1"]
    for block in ("layer1.0", "layer2.0", "layer3.0", "layer4.0"):
        layers = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
        names += [f"{block}.{layer}" for layer in layers]
        names += [f"{block}.shortcut.0", f"{block}.shortcut.1"]
    settings = {"block": models.Bottleneck, "widths": (4, 8, 8, 8, 8)}
    assert names_of(lambda: construct(abstract_rngs(), **settings)) == (
        *names,
        "linear",
    )


def test_convolutions_start_kaiming_normal_with_fan_out():
    widths = (8, 16, 16, 16, 16)  # Few shapes to compile.
    model = construct(nnx.Rngs(0), False, models.Bottleneck, widths=widths)
    assert_convolutions_start_kaiming_normal(model)


def test_gradient_reaches_every_parameter():
    model = nnx.view(tiny(), use_running_average=True)
    assert_gradient_reaches_every_parameter(model, images(4, 8, 8, 3))


def test_bfloat16_computes_in_bfloat16_and_stores_float32():
    model, x = tiny(False, dtype=jnp.bfloat16), images(2, 17, 14, 3)
    output, _ = evaluate(model, x)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(output))
    assert all(leaf.dtype == np.float32 for leaf in leaves(model, ...).values())
    reference = evaluate(tiny(False), x)[0].logits
    difference = np.abs(output.logits.astype(jnp.float32) - reference).max()
    assert 0 < difference < 0.05 * np.abs(reference).max()


@pytest.mark.usefixtures("x64")
def test_float64_computes_and_stores_float64_throughout():
    model = tiny(False, dtype=jnp.float64)
    variables = jax.tree.leaves(jax.eval_shape(train, model, images(2, 8, 8, 3)))
    assert all(leaf.dtype == np.float64 for leaf in variables)


@pytest.mark.parametrize("small_images", [False, True])
def test_too_small_images_raise(small_images):
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        tiny(small_images)(images(2, 8, 7, 3))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"depths": (1, 1, 1)}, "depths must contain 4 numbers, one for each stage"),
        ({"depths": (1, 0, 1, 1)}, r"depths\[1\] must be at least 1"),
        ({"widths": (4, 4, 4, 4)}, "widths must contain 5 numbers, the stem's"),
        ({"widths": (4, 4, 4, 0, 4)}, r"widths\[3\] must be at least 1"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": 0}, "in_channels"),
        ({"dtype": jnp.int32}, "dtype must be"),
    ],
)
def test_errors_name_the_invalid_argument(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        construct(nnx.Rngs(0), **settings)
