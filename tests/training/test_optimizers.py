import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxkd import training
from jaxkd.training._optimizers import learning_rate_of


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


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf"), 1e39, "fast"])
def test_refuses_a_learning_rate_that_makes_no_sense(rate):
    for build in (
        lambda: training.make_optimizer("adamw", rate, {}),
        lambda: inspect.unwrap(training.decayed_sgd)(rate, momentum=0, weight_decay=0),
    ):
        with pytest.raises((TypeError, ValueError), match=r"learning_rate|Type-check"):
            build()


@pytest.mark.parametrize("name", training.OPTIMIZERS)
def test_the_table_holds_optaxs_own_and_each_takes_a_step(name):
    assert training.OPTIMIZERS[name] is getattr(optax, name)
    optimizer = training.make_optimizer(name, 0.1, {})
    (moved,) = follow(optimizer, np.ones((2, 2), np.float32), np.ones((1, 2, 2)))
    assert np.isfinite(moved).all()


def test_settings_reach_the_optimizer():
    gradients = np.float32([[1.0], [-2.0]])
    settings = {"momentum": 0.5, "nesterov": True}
    optimizer = training.make_optimizer("sgd", 0.1, settings)
    path = follow(optimizer, np.zeros(1, np.float32), gradients)
    # v = g + 0.5 v; the step is g + 0.5 v
    np.testing.assert_allclose(np.ravel(path), [-0.15, 0.125], rtol=1e-5)


@pytest.mark.parametrize(
    "name, settings, says",
    [
        ("adamv", {}, "unknown optimizer 'adamv'; did you mean"),
        ("lbfgs", {}, "unknown optimizer 'lbfgs'"),
        ("adam", {"momentum": 0.9}, "unknown setting of adam 'momentum'"),
        ("adam", {"learning_rate": 0.9}, "unknown setting of adam 'learning_rate'"),
        ("adam", {"b1": "hot"}, "settings {'b1': 'hot'} cannot be used with adam"),
    ],
)
def test_refuses_what_optax_does_not_have(name, settings, says):
    with pytest.raises(ValueError, match=says):
        training.make_optimizer(name, 0.1, settings)


def test_an_optimizer_without_schedules_says_so():
    schedule = training.learning_rate_schedule("cosine", 0.1, 10)
    with pytest.raises(ValueError, match="may need a constant learning rate"):
        training.make_optimizer("sm3", schedule, {})


@pytest.mark.parametrize(
    "name, expected",
    [
        ("constant", lambda t: 0.4 + 0 * t),
        ("linear", lambda t: 0.4 * (1 - t)),
        ("cosine", lambda t: 0.2 * (1 + np.cos(np.pi * t))),
        (
            "warmup-cosine",
            lambda t: np.where(
                t < 0.25, 1.6 * t, 0.2 * (1 + np.cos(np.pi * (t - 0.25) / 0.75))
            ),
        ),
        ("step", lambda t: 0.4 * 0.1 ** (1.0 * (t >= 0.5) + 1.0 * (t >= 0.75))),
    ],
)
def test_schedules_follow_their_formulas(name, expected):
    schedule = training.learning_rate_schedule(
        name, 0.4, 100, milestones=(0.5, 0.75), warmup=0.25
    )
    times = np.arange(100)
    with jax.numpy_dtype_promotion("standard"):
        rates = [schedule(t) if callable(schedule) else schedule for t in times]
    np.testing.assert_allclose(rates, expected(times / 100), rtol=1e-4, atol=1e-6)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="unknown schedule 'cosin'; did you mean"):
        training.learning_rate_schedule("cosin", 0.1, 10)


def test_accumulation_updates_once_by_the_mean_gradient():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 3)).astype(np.float32)
    start, sgd = np.ones(3, np.float32), optax.sgd(0.1, momentum=0.9)
    path = follow(training.accumulated(sgd, 3), start, gradients)
    whole = follow(sgd, start, gradients.reshape(2, 3, 3).mean(axis=1))
    np.testing.assert_array_equal(path[1], start)
    np.testing.assert_allclose([path[2], path[5]], whole, rtol=1e-5)
    assert training.accumulated(sgd, 1) is sgd


def test_clipping_scales_all_gradients_by_one_factor():
    optimizer = training.clipped(optax.sgd(1.0), 1.0)
    gradients = {"a": jnp.float32([3.0]), "b": jnp.float32([4.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    np.testing.assert_allclose(updates["a"], -0.6, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], -0.8, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, float("inf"), -1.0])
def test_refuses_a_norm_to_clip_to_that_is_none(value):
    with pytest.raises(ValueError, match="norm must be"):
        training.clipped(optax.sgd(1.0), value)


def rates_of(optimizer, steps):
    """The learning rate before each of some updates."""
    parameter, rates = jnp.ones(2), []
    state = optimizer.init(parameter)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            rates.append(learning_rate_of(optimizer, state))
            _, state = optimizer.update(jnp.ones(2), state, parameter)
    return rates


LINEAR = training.learning_rate_schedule("linear", 1.0, 4)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (training.make_optimizer("adam", 0.1, {}), [0.1] * 4),
        (training.make_optimizer("adamw", LINEAR, {}), [1, 0.75, 0.5, 0.25]),
        (training.make_optimizer("fromage", LINEAR, {}), [1, 0.75, 0.5, 0.25]),
        (training.published_sgd(4, milestones=(0.5,)), [0.05, 0.05, 0.005, 0.005]),
        (
            training.clipped(
                training.decayed_sgd(LINEAR, momentum=0.9, weight_decay=0.0), 1.0
            ),
            [1, 0.75, 0.5, 0.25],
        ),
        (
            training.accumulated(training.make_optimizer("sgd", LINEAR, {}), 2),
            [1, 1, 0.75, 0.75],
        ),
        (
            training.backing_off(training.make_optimizer("sgd", LINEAR, {})),
            [1, 0.75, 0.5, 0.25],
        ),
    ],
    ids=["constant", "schedule", "two", "published", "clipped", "accumulated", "back"],
)
def test_an_optimizer_tells_the_learning_rate_of_its_next_update(optimizer, expected):
    np.testing.assert_allclose(rates_of(optimizer, 4), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        training.make_optimizer("rprop", 0.1, {}),
        training.clipped(optax.sgd(0.1), 1.0),
        training.backing_off(optax.sgd(0.1)),
    ],
    ids=["of a user", "per parameter", "clipped", "back"],
)
def test_an_unknown_learning_rate_is_none(optimizer):
    assert rates_of(optimizer, 1) == [None]


def test_telling_the_learning_rate_leaves_state_and_updates_as_they_are():
    told = training.make_optimizer("adam", LINEAR, {})
    plain = optax.adam(LINEAR)
    parameter = jnp.ones(2)
    assert jax.tree.structure(told.init(parameter)) == jax.tree.structure(
        plain.init(parameter)
    )
    gradients = np.float32([[1.0, -2.0], [0.5, 0.0]])
    ours, theirs = (follow(o, np.ones(2, np.float32), gradients) for o in (told, plain))
    np.testing.assert_array_equal(ours, theirs)
