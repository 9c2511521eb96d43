"""Gradients and special cases of attention losses; the rest is in test_every_loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import losses

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    return rng.normal(0.3, 1.0, (2, 3, 2, 5)), rng.normal(0.3, 1.0, (2, 3, 2, 4))


def gradient(loss, student, *others, **settings):
    total = lambda s: loss(s, *others, **settings).sum()
    return np.asarray(jax.jit(jax.grad(total))(jnp.asarray(student)))


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


@pytest.mark.parametrize(
    "name", ["hint", "attention_transfer", "factor_transfer", "neuron_selectivity"]
)
@pytest.mark.parametrize("channels", [3, 50])
def test_equal_features_cost_nothing(name, channels):
    x = np.random.default_rng(3).normal(size=(2, 4, 5, channels)).astype(np.float32)
    value = jax.jit(getattr(losses, name))(x, x)
    np.testing.assert_allclose(value, 0.0, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["attention_transfer", "factor_transfer", "neuron_selectivity"]
)
def test_leading_axes_are_free(name, maps):
    loss = jax.jit(getattr(losses, name))
    student, teacher = (
        jnp.asarray(np.stack([x, 2 * x[::-1], x + 1]), jnp.float32) for x in maps
    )
    value = loss(student, teacher)
    assert value.shape == (3, 2)
    for i in range(3):
        np.testing.assert_allclose(value[i], loss(student[i], teacher[i]), rtol=1e-5)
