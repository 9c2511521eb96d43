import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError
from jaxkd.data._normalize import check_normalization


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_statistics_of_bytes_match_numpy_in_float64():
    images = random_images(400, 40, 40, 3)  # More than one chunk.
    images[..., 1] //= 3
    scaled = images.astype(np.float64) / 255
    mean, std = data.channel_statistics(images)
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-7)
    assert mean.dtype == std.dtype == np.float32


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_statistics_of_floats_match_numpy_in_float64(offset):
    images = np.random.default_rng(0).normal(offset, 1, (400, 40, 40, 2))
    images = images.astype(np.float32)
    mean, std = data.channel_statistics(images)
    exact = images.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(std, exact.std((0, 1, 2)), rtol=1e-6)


def test_statistics_of_a_memory_map_are_those_of_the_array(tmp_path):
    images = random_images(50, 8, 8, 1)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for ours, theirs in zip(
        data.channel_statistics(mapped), data.channel_statistics(images), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "value", [np.uint8(0), np.uint8(77), np.float32(0.1), np.float32(-1e4)]
)
def test_constant_channel_normalizes_to_zero(value):
    images = np.full((100, 7, 7, 2), value)
    images[..., 1] = np.arange(100 * 49).reshape(100, 7, 7) % 2
    statistics = data.channel_statistics(images)
    assert statistics.std[0] == 1.0
    normalized = data.normalize(images, statistics)
    np.testing.assert_allclose(normalized[..., 0], 0.0, atol=1e-3)
    np.testing.assert_allclose(np.std(normalized[..., 1]), 1.0, rtol=1e-5)


def test_a_channel_that_is_constant_up_to_rounding_normalizes_to_zero():
    value = np.float32(0.1)
    images = np.full((10, 8, 8, 1), value)
    images[::2] = np.nextafter(value, np.float32(1))
    assert data.channel_statistics(images).std == 1.0


def test_a_channel_of_small_values_around_zero_is_not_constant():
    images = np.random.default_rng(0).normal(0, 1e-12, (50, 8, 8, 1))
    statistics = data.channel_statistics(images.astype(np.float32))
    assert statistics.std == pytest.approx(1e-12, rel=0.1)


def test_statistics_of_no_images_raise():
    with pytest.raises(InvalidInputError, match="must not be empty"):
        data.channel_statistics(np.zeros((0, 8, 8, 1), np.uint8))


def test_statistics_of_other_integer_types_raise():
    with pytest.raises(TypeError, match="int32"):
        data.channel_statistics(np.zeros((2, 8, 8, 1), np.int32))


STATISTICS = data.Normalization(
    np.array([0.5, 0.25], np.float32), np.array([0.1, 2.0], np.float32)
)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_bytes_are_scaled_then_shifted_and_divided(transform):
    images = random_images(3, 4, 5, 2)
    expected = (images / 255 - np.float64([0.5, 0.25])) / np.float64([0.1, 2.0])
    actual = transform(data.normalize)(images, STATISTICS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert actual.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_floats_are_not_scaled(dtype):
    images = jnp.asarray(np.random.default_rng(0).normal(0, 9, (3, 4, 5, 2)), dtype)
    exact = np.asarray(images.astype(jnp.float32), np.float64)
    expected = (exact - np.float64([0.5, 0.25])) / np.float64([0.1, 2.0])
    actual = data.normalize(images, STATISTICS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert actual.dtype == jnp.float32


def test_vmap_agrees():
    images = jnp.asarray(random_images(3, 4, 5, 2))
    mapped = jax.vmap(lambda x: data.normalize(x, STATISTICS))(images)
    np.testing.assert_allclose(mapped, data.normalize(images, STATISTICS), rtol=1e-6)


def test_training_images_normalize_to_mean_zero_and_variance_one():
    images = random_images(50, 8, 8, 3)
    normalized = data.normalize(images, data.channel_statistics(images))
    exact = np.asarray(normalized, np.float64)
    np.testing.assert_allclose(exact.mean((0, 1, 2)), 0.0, atol=1e-6)
    np.testing.assert_allclose(exact.std((0, 1, 2)), 1.0, rtol=1e-6)


def test_normalizing_other_integer_types_raises():
    with pytest.raises(TypeError, match="int32"):
        data.normalize(jnp.zeros((2, 4, 5, 2), jnp.int32), STATISTICS)


def test_a_wrong_number_of_channels_raises():
    with pytest.raises(InvalidInputError, match="each of the 3 channels"):
        data.normalize(jnp.zeros((2, 4, 5, 3)), STATISTICS)


VALID = [
    ([0.5], [0.25]),
    ([0.0], [1.0]),  # Of a channel that is 0 everywhere.
    (np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.247, 0.2435, 0.2616])),
    ((1.0005,), (1e-9,)),  # The overshoot of resampling; a faint image.
]


@pytest.mark.parametrize("mean, std", VALID)
def test_the_statistics_of_images_in_0_to_1_are_accepted(mean, std):
    check_normalization(data.Normalization(mean, std), channels=len(mean))


IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
THREE = [0.5] * 3


@pytest.mark.parametrize(
    "mean, std, says",
    [
        (*IMAGENET, "mean must lie in 0 to 1.*divide by 255: 0.485 0.456 0.406"),
        (THREE, IMAGENET[1], "std must be pos.*divide by 255: 0.229 0.224 0.225"),
        ([31611.0] * 3, THREE, "mean must.*divide by 65535: 0.4824"),
        ([127.5] * 3, [127.5] * 3, "mean must.*divide by 255: 0.5 0.5 0.5"),
        ([-0.5] * 3, THREE, "mean must lie in 0 to 1, .* got -0.5"),
        ([np.nan, 0.5, 0.5], THREE, "mean must lie in 0 to 1, .* got nan 0.5"),
        ([np.inf, 0.5, 0.5], THREE, "mean must lie in 0 to 1, .* got inf 0.5"),
        (THREE, [0.0, 0.5, 0.5], "std must be positive and at most 1, .* got 0 0.5"),
        (THREE, [-1.0, 0.5, 0.5], "std must be positive"),
        (THREE, [np.nan, 0.5, 0.5], "std must be positive"),
        (THREE, [0.5], r"std must have one number for each of the 3.*shape \(1,\)"),
        ([], [], "mean must have one number for each of the 3 channels"),
        (0.5, 0.5, r"mean must have one number .*shape \(\)"),
        ([THREE], [THREE], r"mean must have one number .*shape \(1, 3\)"),
        (["a"], ["b"], "mean must be numbers"),
        (None, None, "mean must"),
        ([[1], [2, 3]], THREE, "mean must be numbers"),
    ],
)
def test_other_statistics_are_refused(mean, std, says):
    with pytest.raises(InvalidInputError, match=f"normalization.{says}") as caught:
        check_normalization(data.Normalization(mean, std), channels=3)
    assert caught.value.argument == "normalization"


@pytest.mark.parametrize(
    "mean, std, argument", [(*IMAGENET, "mean"), (THREE, IMAGENET[1], "std")]
)
def test_the_error_can_name_the_mean_or_the_standard_deviation(mean, std, argument):
    with pytest.raises(InvalidInputError, match=f"^{argument} must") as caught:
        check_normalization(data.Normalization(mean, std), argument=None)
    assert caught.value.argument == argument


def test_the_numbers_of_means_and_standard_deviations_must_agree():
    with pytest.raises(InvalidInputError, match="has 3 means, but 1 standard"):
        check_normalization(data.Normalization(THREE, [0.5]))
