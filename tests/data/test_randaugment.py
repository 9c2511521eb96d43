"""Each operation against pillow's, and what holds of all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._randaugment import OPERATIONS

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LEVELS = (-1.0, -0.3, 0.0, 0.45, 1.0)


def photograph(channels, seed=0, size=(17, 20)):
    """Smooth, of narrow range, with a few extremes: no operation is trivial on it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (4, 4, channels), dtype=np.uint8)
    image = np.stack(
        [
            np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BICUBIC))
            for c in np.moveaxis(coarse, -1, 0)
        ],
        axis=-1,
    )
    return image


def in_pillow(name, image, level):
    """The operation by pillow alone."""
    height, width, channels = image.shape
    pil = Image.fromarray(image[..., 0] if channels == 1 else image)
    nearest = {"resample": Image.Resampling.NEAREST}

    def affine(*matrix):
        return pil.transform(pil.size, Image.Transform.AFFINE, matrix, **nearest)

    enhance = {
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhance:
        result = enhance[name](pil).enhance(1 + 0.9 * level)
    else:
        result = {
            "identity": lambda: pil,
            "autocontrast": lambda: ImageOps.autocontrast(pil),
            "equalize": lambda: ImageOps.equalize(pil),
            "rotate": lambda: pil.rotate(30 * level, **nearest),
            "solarize": lambda: ImageOps.solarize(pil, 256 * (1 - abs(level))),
            "posterize": lambda: ImageOps.posterize(pil, 8 - round(4 * abs(level))),
            "shear_x": lambda: affine(1, 0.3 * level, 0, 0, 1, 0),
            "shear_y": lambda: affine(1, 0, 0, 0.3 * level, 1, 0),
            "translate_x": lambda: affine(1, 0, 0.45 * width * level, 0, 1, 0),
            "translate_y": lambda: affine(1, 0, 0, 0, 1, 0.45 * height * level),
        }[name]()
    return np.asarray(result).reshape(height, width, channels)


GEOMETRY = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}


@pytest.fixture(scope="module")
def compiled():
    return {name: jax.jit(operation) for name, operation in OPERATIONS.items()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_agrees_with_pillow(compiled, name, channels):
    for level in LEVELS:
        image = photograph(channels)
        ours = np.asarray(compiled[name](image, jnp.float32(level)))
        theirs = in_pillow(name, image, level)
        assert ours.dtype == np.uint8
        if name in GEOMETRY:
            # A point on the border of two pixels may fall to either.
            assert np.mean(np.any(ours != theirs, axis=-1)) <= 0.01
        else:
            # Pillow cuts off what is computed in floating point.
            assert np.abs(ours.astype(int) - theirs).max() <= 1
        if name in ("equalize", "solarize", "posterize", "identity"):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_a_constant_channel_is_unchanged(compiled, name):
    image = np.full((5, 5, 1), 77, np.uint8)
    np.testing.assert_array_equal(compiled[name](image, jnp.float32(0)), image)


@pytest.mark.parametrize("name", sorted({*OPERATIONS} - {"autocontrast", "equalize"}))
def test_level_zero_is_the_identity(compiled, name):
    image = photograph(3)
    np.testing.assert_array_equal(compiled[name](image, jnp.float32(0)), image)


IMAGES = jnp.asarray(np.stack([photograph(1, seed, (8, 8)) for seed in range(3)] * 400))


@pytest.fixture(scope="module")
def one_operation():
    """400 times three images, each through one operation."""
    return np.asarray(apply(0))


def apply(seed, images=IMAGES, settings=None):
    settings = settings or data.RandAugment(1, 9)
    return jax.jit(data.randaugment, static_argnums=2)(
        jax.random.key(seed), images, settings
    )


def test_each_image_draws_its_own_operation(one_operation):
    functions = OPERATIONS.values()
    all_of_them = jax.jit(lambda x, level: [f(x, level) for f in functions])
    for i in range(3):
        found = [
            np.asarray(all_of_them(IMAGES[i], jnp.float32(s))) for s in (0.9, -0.9)
        ]
        candidates = np.unique(np.concatenate(found), axis=0).astype(int)
        seen = one_operation[i::3].astype(int)
        differs = np.abs(seen[:, None] - candidates[None]) > 1  # fused otherwise
        share = differs.mean((2, 3, 4))
        assert share.min(axis=1).max() <= 0.02
        assert share.min(axis=0).max() <= 0.02  # and all were drawn


def test_the_same_key_gives_the_same_images_and_another_key_other_images(one_operation):
    np.testing.assert_array_equal(apply(0), one_operation)
    assert (np.asarray(apply(1)) != one_operation).any()


def test_operations_are_applied_one_after_another():
    once = apply(0, settings=data.RandAugment(1, 9))
    twice = apply(0, settings=data.RandAugment(2, 9))
    changed = [np.mean(np.any(x != IMAGES, axis=(1, 2, 3))) for x in (once, twice)]
    assert changed[0] < changed[1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_floats_are_transformed_like_bytes(dtype, one_operation):
    floats = apply(0, (IMAGES.astype(jnp.float32) / 255).astype(dtype))
    assert floats.dtype == dtype
    if dtype == jnp.float32:
        np.testing.assert_array_equal(jnp.round(floats * 255), one_operation)


def test_crops_and_flips_come_first_and_do_not_depend_on_randaugment():
    key, settings = jax.random.key(0), data.RandAugment(1, 9)
    cropped = data.augment(key, IMAGES[:6], data.Augmentation(2, True))
    both = data.augment(key, IMAGES[:6], data.Augmentation(2, True, settings))
    again = data.randaugment(jax.random.fold_in(key, 1), cropped, settings)
    np.testing.assert_array_equal(both, again)


@pytest.mark.parametrize(
    "settings, channels, says",
    [
        (data.RandAugment(0, 9), 3, "operations must be at least 1"),
        (data.RandAugment(2, 11), 3, r"must lie in \[0, 10\], got 11"),
        (data.RandAugment(2, float("nan")), 3, r"must lie in \[0, 10\], got nan"),
        (data.RandAugment(2, 9), 4, "1 or 3 channels for RandAugment, got 4"),
    ],
)
def test_unsupported_images_and_settings_raise(settings, channels, says):
    images = jnp.zeros((2, 4, 4, channels), jnp.uint8)
    with pytest.raises(InvalidInputError, match=says):
        data.randaugment(jax.random.key(0), images, settings)


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (1 / 128, -1.0)])
def test_floats_of_another_range_are_refused(scale, shift):
    images = (np.asarray(IMAGES) * np.float32(scale) + shift).astype(np.float32)
    with pytest.raises(InvalidInputError, match="images must lie in 0 to 1"):
        data.randaugment(jax.random.key(0), images, data.RandAugment(1, 9))
