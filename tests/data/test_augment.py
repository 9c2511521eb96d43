import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._augment import _crop

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOTH = data.Augmentation(crop_padding=2, flip=True)


def random_images(*shape, low=0):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(low, 256, shape, dtype=np.uint8))


compiled = jax.jit(data.augment, static_argnums=2)


def windows(image, padding, flip):
    """Every result that the augmentation may give for one image."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = padded[top : top + height, left : left + width]
            yield window
            if flip:
                yield window[:, ::-1]


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 4, 7, 1)])
def test_crop_matches_slicing_at_the_same_offsets(shape):
    rng = np.random.default_rng(1)
    images, padding = random_images(*shape), 3
    offsets = rng.integers(0, 2 * padding + 1, (6, 2), dtype=np.int32)
    offsets[:2] = [[0, 0], [2 * padding, 2 * padding]]
    mirrored = np.array([False, True, True, False, True, False])
    expected = []
    for image, (top, left), mirror in zip(images, offsets, mirrored, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        window = padded[top : top + shape[1], left : left + shape[2]]
        expected.append(window[:, ::-1] if mirror else window)
    actual = _crop(images, jnp.asarray(offsets), jnp.asarray(mirrored), padding)
    np.testing.assert_array_equal(actual, np.stack(expected))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 2])
def test_each_image_becomes_a_window_of_the_padded_image(padding, flip):
    images = random_images(16, 6, 5, 3)
    augmented = compiled(jax.random.key(0), images, data.Augmentation(padding, flip))
    for image, result in zip(np.asarray(images), np.asarray(augmented), strict=True):
        assert any((result == w).all() for w in windows(image, padding, flip))


def test_all_windows_and_both_orientations_are_equally_likely():
    image = random_images(1, 3, 4, 1, low=1)
    draws = 9000
    augmented = compiled(
        jax.random.key(0),
        jnp.repeat(image, draws, axis=0),
        data.Augmentation(crop_padding=1, flip=True),
    )
    possible = {window.tobytes() for window in windows(np.asarray(image[0]), 1, True)}
    assert len(possible) == 18
    seen, counts = np.unique(
        np.asarray(augmented).reshape(draws, -1), axis=0, return_counts=True
    )
    assert {row.tobytes() for row in seen} == possible
    # Chi-squared with 17 degrees of freedom: mean 17, 99.99% below 47.6.
    assert np.sum((counts - draws / 18) ** 2 / (draws / 18)) < 47.6


def test_padding_is_black():
    images = jnp.full((64, 4, 4, 1), 255, jnp.uint8)
    augmented = np.asarray(compiled(jax.random.key(0), images, BOTH))
    assert set(np.unique(augmented)) == {0, 255}


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_dtype_and_shape_are_kept(dtype):
    images = jnp.ones((2, 4, 5, 1), dtype)
    augmented = compiled(jax.random.key(0), images, BOTH)
    assert augmented.dtype == dtype
    assert augmented.shape == images.shape


def test_the_same_key_gives_the_same_images_and_another_key_other_images():
    images = random_images(16, 6, 5, 3)
    first, same, other = (
        compiled(jax.random.key(seed), images, BOTH) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_jit_agrees_with_eager():
    images = random_images(16, 6, 5, 3)
    key = jax.random.key(0)
    eager = data.augment(key, images, BOTH)
    np.testing.assert_array_equal(compiled(key, images, BOTH), eager)


@pytest.mark.usefixtures("x64")
def test_x64_agrees():
    images = random_images(4, 6, 5, 3)
    assert compiled(jax.random.key(0), images, BOTH).dtype == jnp.uint8


def test_nothing_is_traced_if_all_augmentations_are_off():
    images = random_images(4, 6, 5, 3)
    jaxpr = jax.make_jaxpr(lambda k, x: data.augment(k, x, data.Augmentation()))(
        jax.random.key(0), images
    )
    assert not jaxpr.eqns


def test_negative_padding_raises():
    with pytest.raises(InvalidInputError, match="crop_padding must be at least 0"):
        data.augment(
            jax.random.key(0), random_images(2, 4, 4, 1), data.Augmentation(-1, True)
        )
