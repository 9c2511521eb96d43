"""Gradients and special cases of the feature losses; the rest is in test_zoo."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return rng.normal(0.3, 1.0, (2, 3, 2, 5)), rng.normal(0.3, 1.0, (2, 3, 2, 4))


@pytest.fixture
def equal_maps():
    return tuple(np.random.default_rng(1).normal(0.3, 1.0, (2, 2, 3, 2, 4)))


def gradient(loss, student, *others, **settings):
    total = lambda s: loss(s, *others, **settings).sum()
    return np.asarray(jax.grad(total)(jnp.asarray(student)))


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_hint_is_twice_the_mean_difference(equal_maps):
    student, teacher = equal_maps
    expected = 2 * (student - teacher) / 24
    np.testing.assert_allclose(
        gradient(losses.hint, student, teacher), expected, rtol=1e-12
    )


def flat_attention(x, power):
    """(attention, its length before scaling, features by position) of each example."""
    x = x.reshape(len(x), -1, x.shape[-1])
    raw = (x**power).mean(-1)
    length = np.linalg.norm(raw, axis=-1, keepdims=True)
    return raw / length, length, x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("name", ["attention_transfer", "factor_transfer"])
def test_the_gradient_of_attention_is_what_the_docstring_says(maps, name, power):
    student, teacher = maps
    a, length, x = flat_attention(student, power)
    b, _, _ = flat_attention(teacher, power)
    g = 2 * (a - b) if name == "attention_transfer" else np.sign(a - b)
    projected = g - a * np.sum(a * g, axis=-1, keepdims=True)
    positions, channels = x.shape[1:]
    factor = power * x ** (power - 1) / (positions * channels * length[..., None])
    expected = (factor * projected[..., None]).reshape(student.shape)
    actual = gradient(getattr(losses, name), student, teacher, power=power)
    np.testing.assert_allclose(actual, expected, atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("channels", [2, 9])
def test_the_gradient_of_neuron_selectivity_is_that_of_the_second_moments(channels):
    # Channels by channels, and positions by positions.
    rng = np.random.default_rng(2)
    s, t = rng.normal(0.3, 1.0, (2, 3, 6, channels))
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    moment = lambda x: x @ np.swapaxes(x, 1, 2) / channels
    raw = 4 / channels * (moment(s) - moment(t)) @ s
    # What the scaling to unit length lets through of vectors that have it already.
    expected = raw - s * np.sum(raw * s, axis=1, keepdims=True)
    shape = (3, 2, 3, channels)
    actual = gradient(losses.neuron_selectivity, s.reshape(shape), t.reshape(shape))
    np.testing.assert_allclose(actual, expected.reshape(shape), atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_variational_information_is_the_scaled_residual(equal_maps):
    prediction, teacher = equal_maps
    log_scale = np.array([-2.0, 0.0, 1.0, 5.0])
    variance = np.log1p(np.exp(log_scale)) + 1e-5
    expected = (prediction - teacher) / (24 * variance)
    actual = gradient(losses.variational_information, prediction, teacher, log_scale)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_best_variance_is_the_mean_squared_error_of_the_channel(equal_maps):
    prediction, teacher = equal_maps
    error = ((prediction - teacher) ** 2).mean(axis=(0, 1, 2))
    best = np.log(np.expm1(error - 1e-5))
    total = lambda x: losses.variational_information(prediction, teacher, x).sum()
    np.testing.assert_allclose(jax.grad(total)(jnp.asarray(best)), 0.0, atol=1e-14)


def test_one_log_scale_serves_all_channels(equal_maps):
    x = [jnp.asarray(y, jnp.float32) for y in equal_maps]
    np.testing.assert_array_equal(
        losses.variational_information(*x, 0.5),
        losses.variational_information(*x, jnp.full(4, 0.5)),
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_the_gradient_of_activation_boundary_pushes_over_the_margin(equal_maps, margin):
    student, teacher = equal_maps
    side = np.where(teacher > 0, 1.0, -1.0)
    expected = -2 * side * np.maximum(0, margin - side * student)
    actual = gradient(losses.activation_boundary, student, teacher, margin=margin)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_neurons_beyond_the_margin_on_the_right_side_cost_nothing(equal_maps):
    teacher = jnp.asarray(equal_maps[1], jnp.float32)
    student = jnp.where(teacher > 0, 1.0, -1.0) * (1.0 + jnp.abs(teacher))
    np.testing.assert_array_equal(losses.activation_boundary(student, teacher), 0.0)


def test_a_teacher_of_zero_counts_as_inactive():
    student, teacher = jnp.full((1, 1, 1, 1), -2.0), jnp.zeros((1, 1, 1, 1))
    np.testing.assert_array_equal(losses.activation_boundary(student, teacher), 0.0)
    np.testing.assert_array_equal(losses.activation_boundary(-student, teacher), 9.0)


@pytest.mark.parametrize(
    "name", ["hint", "attention_transfer", "factor_transfer", "neuron_selectivity"]
)
@pytest.mark.parametrize("channels", [3, 50])
def test_equal_features_cost_nothing(name, channels):
    x = np.random.default_rng(3).normal(size=(2, 4, 5, channels)).astype(np.float32)
    np.testing.assert_allclose(getattr(losses, name)(x, x), 0.0, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["attention_transfer", "factor_transfer", "neuron_selectivity"]
)
def test_leading_axes_are_free(name, maps):
    loss = getattr(losses, name)
    student, teacher = (
        jnp.asarray(np.stack([x, 2 * x[::-1], x + 1]), jnp.float32) for x in maps
    )
    value = loss(student, teacher)
    assert value.shape == (3, 2)
    for i in range(3):
        np.testing.assert_allclose(value[i], loss(student[i], teacher[i]), rtol=1e-5)


MAP = jnp.ones((2, 3, 3, 4))
BAD = {
    "no features": (losses.hint, (jnp.ones(3), jnp.ones(3)), {}, "at least one"),
    "other shape": (losses.hint, (MAP, MAP[..., 1:]), {}, "the same shape"),
    "no map": (
        losses.attention_transfer,
        (MAP[0, 0], MAP),
        {},
        "student_features must be feature maps",
    ),
    "empty": (
        losses.factor_transfer,
        (MAP, MAP[:, :0]),
        {},
        "teacher_factor must be feature maps",
    ),
    "power": (losses.attention_transfer, (MAP, MAP), {"power": 0}, "power must be at"),
    "scales": (
        losses.variational_information,
        (MAP, MAP, jnp.ones(3)),
        {},
        "log_scale must be a scalar or hold one number for each channel",
    ),
    "sizes": (
        losses.variational_information,
        (MAP, MAP[:, 1:], 0.0),
        {},
        "the same shape",
    ),
    "margin": (
        losses.activation_boundary,
        (MAP, MAP),
        {"margin": 0.0},
        "margin must be positive",
    ),
    "channels": (losses.activation_boundary, (MAP, MAP[..., :1]), {}, "the same shape"),
}


@pytest.mark.parametrize("loss, arguments, settings, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(loss, arguments, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        inspect.unwrap(loss)(*arguments, **settings)
