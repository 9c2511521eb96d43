"""Gradients and special cases of the feature losses; the rest is in test_every_loss."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def equal_maps():
    return tuple(np.random.default_rng(1).normal(0.3, 1.0, (2, 2, 3, 2, 4)))


def gradient(loss, student, *others, **settings):
    total = lambda s: loss(s, *others, **settings).sum()
    return np.asarray(jax.jit(jax.grad(total))(jnp.asarray(student)))


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_hint_is_twice_the_mean_difference(equal_maps):
    student, teacher = equal_maps
    expected = 2 * (student - teacher) / 24
    np.testing.assert_allclose(
        gradient(losses.hint, student, teacher), expected, rtol=1e-12
    )


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
