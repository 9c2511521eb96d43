import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_support import built
from flax import nnx

from jaxkd import heads
from jaxkd._errors import InvalidInputError


def build(student, teacher, **settings):
    return built(lambda rngs: heads.Regressor(student, teacher, rngs=rngs, **settings))


def apply(regressor, x):
    return nnx.jit(lambda m, x: m(x))(regressor, x)


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "size, target",
    [
        ((8, 8), (4, 4)),
        ((8, 4), (4, 2)),
        ((4, 6), (8, 12)),
        ((1, 1), (2, 2)),
        ((5, 5), (5, 5)),
        ((7, 5), (4, 5)),
        ((8, 6), (4, 4)),
        ((2, 2), (1, 1)),
    ],
)
def test_maps_get_the_teachers_shape(size, target):
    x = jnp.zeros((2, *size, 3))
    regress = lambda x: heads.Regressor((*size, 3), (*target, 5), rngs=nnx.Rngs(0))(x)
    assert jax.eval_shape(regress, x).shape == (2, *target, 5)


def normalize(y):
    """Batch normalization as it starts."""
    mean, variance = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
    return (y - mean) / np.sqrt(variance + 1e-5)


def convolve(x, kernel, stride, padding):
    """Convolution by its definition, one output after the other."""
    x = np.pad(np.float64(x), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = kernel.shape[:2]
    rows = range(0, x.shape[1] - height + 1, stride)
    columns = range(0, x.shape[2] - width + 1, stride)
    patch = lambda i, j: x[:, i : i + height, j : j + width]
    return np.stack(
        [
            np.stack([np.einsum("bhwc,hwcd->bd", patch(i, j), kernel) for j in columns])
            for i in rows
        ]
    ).transpose(2, 0, 1, 3)


@pytest.mark.parametrize(
    "size, target, stride, padding", [(6, 3, 2, 1), (5, 5, 1, 0), (5, 4, 1, 0)]
)
@pytest.mark.parametrize("activate", [True, False])
def test_it_is_convolution_normalization_and_relu(
    size, target, stride, padding, activate
):
    regressor = build((size, size, 2), (target, target, 3), activate=activate)
    x = random_maps(4, size, size, 2)
    kernel = np.float64(regressor.conv.kernel[...])
    expected = normalize(convolve(x, kernel, stride, padding))
    if activate:
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(apply(regressor, x), expected, rtol=1e-4, atol=1e-5)


def test_the_transposed_convolution_spreads_every_input_over_4x4_outputs():
    regressor = build((3, 4, 2), (6, 8, 3), activate=False)
    x = random_maps(4, 3, 4, 2)
    # Flax correlates, so what an input spreads is the kernel in reverse.
    kernel = np.float64(regressor.conv.kernel[...])[::-1, ::-1]
    full = np.zeros((4, 8, 10, 3))
    for i in range(3):
        for j in range(4):
            full[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum(
                "bc,hwcd->bhwd", x[:, i, j], kernel
            )
    cut = full[:, 1:-1, 1:-1]  # the padding
    np.testing.assert_allclose(
        apply(regressor, x), normalize(cut), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "size, target, fan",
    [((8, 8), (4, 4), 9 * 40), ((4, 4), (8, 8), 16 * 60), ((4, 4), (4, 4), 40)],
)
def test_weights_start_uniform_within_one_over_the_root_of_the_fan(size, target, fan):
    # Of 40 inputs a position, and of the transposed convolution 60 outputs.
    conv = build((*size, 40), (*target, 60)).conv
    limit = 1 / np.sqrt(fan)
    kernel = np.asarray(conv.kernel[...])
    assert 0.9 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.05)


def test_running_statistics_keep_nine_tenths():
    regressor = build((3, 3, 2), (3, 3, 4))
    x = random_maps(5, 3, 3, 2)
    y = regressor.conv(x)
    apply(regressor, x)
    mean, variance = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
    np.testing.assert_allclose(regressor.norm.mean[...], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(regressor.norm.var[...], 0.9 + 0.1 * variance, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_float64_stays_float64():
    regressor = build((4, 4, 2), (2, 2, 3), dtype=jnp.float64)
    assert apply(regressor, np.ones((2, 4, 4, 2))).dtype == jnp.float64
    leaves = nnx.to_pure_dict(nnx.state(regressor, nnx.BatchStat))["norm"]
    assert {leaf.dtype for leaf in leaves.values()} == {np.dtype("float64")}


def test_bfloat16_maps_are_computed_in_float32():
    regressor = build((4, 4, 2), (2, 2, 3))
    assert apply(regressor, jnp.ones((2, 4, 4, 2), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (3, 8)])
def test_the_error_for_a_student_map_that_is_too_small_names_both_sizes(size):
    message = f"got maps of {size[0]}x{size[1]} and 8x8"
    with pytest.raises(InvalidInputError, match=message):
        build((*size, 2), (8, 8, 2))


def test_shapes_are_checked():
    with pytest.raises(InvalidInputError, match="height, width, channels"):
        build((2, 8, 8, 3), (4, 4, 3))
    with pytest.raises(InvalidInputError, match=r"teacher_shape\[2\] must be"):
        build((8, 8, 3), (4, 4, 0))


def test_integer_maps_raise():
    with pytest.raises(TypeError, match="x must be floating point"):
        inspect.unwrap(heads.Regressor.__call__)(
            build((4, 4, 2), (2, 2, 3)), jnp.ones((1, 4, 4, 2), int)
        )
