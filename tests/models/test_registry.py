import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from model_support import abstract_rngs

from jaxkd import models
from jaxkd._errors import InvalidInputError


def build(name, **settings):
    arguments = {"num_classes": 10, "image_shape": (8, 8, 1), "rngs": nnx.Rngs(0)}
    return models.build(name, **arguments | settings)


def output_of(name, **settings):
    shape = settings.get("image_shape", (8, 8, 1))

    def apply(x):
        return build(name, **settings, rngs=abstract_rngs())(x)

    return jax.eval_shape(apply, jnp.zeros((2, *shape)))


def test_names_are_the_networks_of_the_benchmarks_and_the_mlp():
    depths = (8, 14, 20, 32, 44, 56, 110)
    names = {f"resnet{depth}" for depth in depths} | {"resnet8x4", "resnet32x4", "mlp"}
    names |= {"ResNet50", "resnet18", "resnet34", "resnet50"}
    names |= {"wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"}
    names |= {f"vgg{depth}" for depth in (8, 11, 13, 16, 19)}
    names |= {"MobileNetV2", "ShuffleV1", "ShuffleV2", "vit_ti", "vit_s"}
    names |= {"vit_b", "efficientnet_lite0"}
    assert set(models.names()) == names


@pytest.mark.parametrize("name", ["mlp", "resnet8", "resnet18", "wrn_16_1", "vgg8"])
def test_models_suit_the_image_shape_and_number_of_classes(name):
    output = output_of(name, image_shape=(12, 8, 2), num_classes=7)
    assert isinstance(output, models.ModelOutput)
    assert output.logits.shape == (2, 7)


@pytest.mark.parametrize(
    "name, widths",
    [
        ("resnet8", (4, 4, 8, 16)),
        ("resnet8x4", (4, 8, 16, 32)),
        ("ResNet50", (4, 16, 32, 64, 128)),
        ("wrn_16_2", (4, 8, 16, 32)),
        ("vgg8", (4, 8, 16, 32, 32)),
    ],
)
def test_width_scales_every_stage(name, widths):
    output = output_of(name, width=4)
    assert tuple(stage.shape[-1] for stage in output.stages) == widths


@pytest.mark.parametrize(
    "name, width, channels, embedding",
    [
        pytest.param(
            *("MobileNetV2", 4, (4, 3, 4, 12, 40), 320), marks=pytest.mark.slow
        ),
        pytest.param(
            *("ShuffleV1", 12, (12, 120, 240, 480), 480), marks=pytest.mark.slow
        ),
        ("ShuffleV2", 5, (5, 24, 48, 96), 213),
        ("efficientnet_lite0", 4, (4, 3, 5, 14, 40), 160),
    ],
)
def test_width_scales_the_networks_for_small_devices(name, width, channels, embedding):
    output = output_of(name, width=width)
    assert tuple(stage.shape[-1] for stage in output.stages) == channels
    assert output.embedding.shape == (2, embedding)


def test_width_is_the_size_of_a_token_of_the_transformers():
    output = output_of("vit_ti", width=6, image_shape=(32, 16, 1))
    assert [stage.shape for stage in output.stages] == [(2, 2, 1, 6)] * 5


def test_images_that_are_not_a_multiple_of_the_patches_raise():
    with pytest.raises(InvalidInputError, match="multiples of the patch size, 16"):
        build("vit_ti", image_shape=(32, 24, 1))


@pytest.mark.parametrize("name, multiple", [("ShuffleV1", 12), ("vit_s", 6)])
def test_a_width_that_groups_or_heads_do_not_divide_raises(name, multiple):
    with pytest.raises(InvalidInputError, match=f"must be a multiple of {multiple}"):
        build(name, width=10, image_shape=(32, 32, 1))


@pytest.mark.parametrize(
    "name", ["MobileNetV2", "ShuffleV1", "ShuffleV2", "efficientnet_lite0"]
)
def test_building_networks_for_small_devices_with_too_small_images_raises(name):
    with pytest.raises(InvalidInputError, match="at least 8x8 pixels"):
        build(name, image_shape=(8, 7, 1))


def test_width_is_the_hidden_size_of_the_mlp():
    assert output_of("mlp", width=5).embedding.shape == (2, 5)


def test_the_published_width_is_the_default():
    ours, theirs = output_of("resnet8x4", width=32), output_of("resnet8x4")
    assert ours.stages == theirs.stages


def test_dtype_reaches_the_model():
    assert output_of("resnet8", dtype=jnp.bfloat16).logits.dtype == jnp.bfloat16
    assert output_of("mlp", dtype=jnp.bfloat16).logits.dtype == jnp.bfloat16


def test_the_error_for_an_unknown_name_suggests_similar_names():
    with pytest.raises(InvalidInputError, match=r"did you mean .*'resnet8x4'"):
        build("resnet8x5")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"image_shape": (7, 8, 1)}, "at least 8x8 pixels"),
        ({"image_shape": (8, 8, 0)}, r"image_shape\[2\]"),
        ({"width": 0}, "width must be at least 1"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_errors_name_the_invalid_argument(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        build("resnet8", **settings)
