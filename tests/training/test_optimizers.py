import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import training


def sgd_by_definition(parameter, gradients, rates, *, momentum, decay):
    """The update of PyTorch's SGD, transcribed."""
    velocity, path = np.zeros_like(parameter), []
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = momentum * velocity + gradient + decay * parameter
        parameter = parameter - rate * velocity
        path.append(parameter)
    return path


def follow(optimizer, parameter, gradients):
    path = []
    state = optimizer.init(jnp.asarray(parameter))
    # optax schedules mix integer counts with floats
    with jax.numpy_dtype_promotion("standard"):
        for gradient in gradients:
            update, state = optimizer.update(jnp.asarray(gradient), state, parameter)
            parameter = parameter + np.asarray(update)
            path.append(parameter)
    return path


def test_follows_the_published_update_over_its_milestones():
    rng = np.random.default_rng(0)
    parameter = rng.normal(size=3).astype(np.float32)
    gradients = rng.normal(size=(16, 3)).astype(np.float32)
    rates = [0.05] * 10 + [0.005] * 2 + [0.0005] * 2 + [0.00005] * 2
    expected = sgd_by_definition(
        np.float64(parameter), gradients, rates, momentum=0.9, decay=5e-4
    )
    actual = follow(training.published_sgd(16), parameter, gradients)
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)


def test_milestones_that_meet_in_a_short_run_multiply():
    gradients = np.ones((2, 1), np.float32)
    optimizer = training.published_sgd(
        2, learning_rate=1.0, momentum=0.0, weight_decay=0.0, milestones=(0.5, 0.6)
    )
    path = follow(optimizer, np.zeros(1, np.float32), gradients)
    np.testing.assert_allclose(np.ravel(path), [-1.0, -1.01], rtol=1e-6)


@pytest.mark.parametrize(
    "name, value",
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("momentum", 1.5),
        ("weight_decay", -1.0),
        ("weight_decay", float("nan")),
        ("milestones", (2.0,)),
    ],
)
def test_refuses_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        training.published_sgd(10, **{name: value})
