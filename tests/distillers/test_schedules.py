"""Weights and temperatures that are functions of the step or the epoch."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxkd import distillers, losses
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

STEPS_PER_EPOCH = 3
LABELS = np.array([0, 2, 1])
DRAWN = np.random.default_rng(0).normal(0, 2, (2, 3, 5)).astype(np.float32)
OUTPUTS = [
    ModelOutput(jnp.asarray(x), jnp.zeros((3, 2)), (jnp.ones((3, 2, 2, 4)),) * 2)
    for x in DRAWN
]
SPEC = distillers.Spec(*OUTPUTS, 5, LABELS)
weighted = inspect.unwrap(distillers.weighted)  # without the run-time type checks


def batch_at(step, steps_per_epoch=STEPS_PER_EPOCH):
    return distillers.Batch(
        *(jnp.zeros((3, 8, 8, 1)), jnp.asarray(LABELS), jnp.arange(3)),
        jax.random.key(0),
        step=None if step is None else jnp.int32(step),
        steps_per_epoch=steps_per_epoch,
    )


def run(distiller, step, *, spec=SPEC, **known):
    """The values and the metrics of a distiller at a step."""
    state = distiller.init(nnx.Rngs(0), spec)
    values, _, metrics = distiller.loss(*state, *OUTPUTS, batch_at(step, **known))
    return np.asarray(values), metrics


def mixture(weight):
    return weighted(
        ce=(1.0, distillers.cross_entropy()), kd=(weight, distillers.soft_targets())
    )


def published(epoch, epochs=20):
    """The factor of the published benchmark; its first epoch is 1."""
    return min(epoch / epochs, 1.0)


@pytest.mark.parametrize("step", [0, 2, 3, 7, 56, 57, 60, 1000])
def test_the_linear_ramp_is_the_published_one(step):
    epoch = step // STEPS_PER_EPOCH + 1
    _, metrics = run(mixture(distillers.warmup(2.0, epochs=20)), step)
    expected = 2.0 * published(epoch)
    np.testing.assert_allclose(metrics["weight/kd"], expected, rtol=2e-7)


@pytest.mark.parametrize("step", [0, 5, 11, 12])
def test_the_cosine_ramp_is_half_a_wave_of_the_published_share(step):
    share = published(step // STEPS_PER_EPOCH + 1, 4)
    ramp = distillers.warmup(3.0, epochs=4, ramp="cosine")
    _, metrics = run(mixture(ramp), step)
    expected = 3.0 * (1 - math.cos(math.pi * share)) / 2
    np.testing.assert_allclose(metrics["weight/kd"], expected, rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 3, 7, 20, 49])
def test_a_ramp_ends_with_exactly_its_value(epochs):
    ramp = distillers.warmup(0.3, epochs=epochs)
    at = jax.jit(lambda step: batch_at(0)._replace(step=step).epoch)
    for later in (0, 1, 100):
        step = (epochs - 1) * STEPS_PER_EPOCH + later
        value = jax.jit(ramp.of_epoch)(at(jnp.int32(step)))
        assert float(value) == np.float32(0.3)


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 49, 938, 20_019])
def test_an_epoch_is_an_integer_at_its_first_step_and_never_before(steps_per_epoch):
    epochs = np.arange(1, 300, 7)
    known = batch_at(0, steps_per_epoch)
    epoch_of = jax.jit(jax.vmap(lambda step: known._replace(step=step).epoch))
    first = epoch_of(jnp.asarray(epochs * steps_per_epoch, jnp.int32))
    before = epoch_of(jnp.asarray(epochs * steps_per_epoch - 1, jnp.int32))
    np.testing.assert_array_equal(first, epochs)
    np.testing.assert_array_equal(np.floor(before), epochs - 1)


@pytest.mark.parametrize("step", [0, 1, 5, 10, 11])
def test_the_loss_is_the_weight_of_the_step_times_the_part(step):
    values, metrics = run(mixture(optax.linear_schedule(0.5, 2.0, 10)), step)
    weight = 0.5 + 1.5 * min(step / 10, 1.0)
    np.testing.assert_allclose(metrics["weight/kd"], weight, rtol=1e-6)
    student, teacher = map(jnp.asarray, DRAWN)
    ce = optax.losses.softmax_cross_entropy_with_integer_labels(student, LABELS)
    kd = losses.soft_target_kl(student, teacher, temperature=4.0)
    np.testing.assert_allclose(values, ce + weight * kd, rtol=1e-6)
    np.testing.assert_allclose(metrics["kd"], np.mean(kd), rtol=1e-6)


def test_a_weight_that_is_a_number_is_no_metric():
    _, metrics = run(mixture(0.5), None)
    assert not [name for name in metrics if name.startswith("weight")]


def test_a_part_whose_weight_begins_at_zero_is_initialized():
    part = distillers.review()
    late = distillers.EpochSchedule(lambda epoch: jnp.maximum(epoch - 5, 0))
    state = weighted(review=(late, part)).init(nnx.Rngs(0), SPEC)
    assert jax.tree.leaves(state.params["review"])


def test_a_mixture_of_schedules_alone_is_no_mixture_of_nothing():
    _, metrics = run(
        weighted(kd=(optax.constant_schedule(0.0), distillers.soft_targets())), 0
    )
    assert float(metrics["weight/kd"]) == 0


def test_a_schedule_of_a_nested_mixture_is_under_the_name_of_its_part():
    outer = weighted(all=(1.0, mixture(distillers.warmup(epochs=4))))
    _, metrics = run(outer, 0)
    assert float(metrics["all/weight/kd"]) == 0.25


@pytest.mark.parametrize(
    "schedule, error, says",
    [
        (lambda step: -1.0, InvalidInputError, "got -1.0 at step 0; with a negative"),
        (lambda step: jnp.nan, InvalidInputError, "finite and not negative, got nan"),
        (lambda step: jnp.ones(2), InvalidTypeError, r"an array of shape \(2,\)"),
        (lambda step: "x", InvalidTypeError, "fails at step 0: Value 'x'"),
        (lambda: 1.0, InvalidTypeError, "fails at step 0: .*takes 0 positional"),
        (distillers.soft_targets, InvalidTypeError, "the weight of kd must be a num"),
    ],
)
def test_a_schedule_that_does_not_begin_as_a_weight_is_refused(schedule, error, says):
    with pytest.raises(error, match=says) as caught:
        mixture(schedule)
    assert caught.value.argument == "kd"


def test_a_part_named_weight_is_refused_beside_a_schedule():
    part = distillers.soft_targets()
    weighted(weight=(1.0, part))
    with pytest.raises(InvalidInputError, match="choose another name"):
        weighted(weight=(1.0, part), kd=(optax.constant_schedule(1.0), part))


def test_a_schedule_of_an_unknown_step_is_refused_with_what_to_pass():
    with pytest.raises(InvalidInputError, match=r"the weight of kd .* steps_per_epoch"):
        run(mixture(optax.constant_schedule(1.0)), None)


def test_a_ramp_without_the_length_of_an_epoch_is_refused():
    with pytest.raises(InvalidInputError, match="steps_per_epoch is None"):
        run(mixture(distillers.warmup(epochs=3)), 0, steps_per_epoch=None)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"value": -1.0, "epochs": 2}, "value must be finite and not negative"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 2, "ramp": "square"}, "unknown ramp 'square'"),
    ],
)
def test_a_ramp_that_cannot_be_is_refused(settings, says):
    with pytest.raises(InvalidInputError, match=says):
        inspect.unwrap(distillers.warmup)(**settings)


TEMPERED = {
    name: method.build
    for name, method in ((m.part, m) for m in distillers.METHODS)
    if "temperature" in (known := inspect.signature(method.build).parameters)
    and known["temperature"].annotation not in ("float | int", float | int)
    and name != "sskd"  # its views are tested in test_self_supervised.py
}


def test_the_methods_with_a_softening_temperature_are_known():
    assert TEMPERED.keys() == {
        *("kd", "ttm", "wttm", "rkl", "js", "skl", "dkd", "nkd", "dist", "lskd", "cwd")
    }


@pytest.mark.parametrize("build", TEMPERED.values(), ids=TEMPERED)
def test_a_scheduled_temperature_is_that_of_the_step(build):
    cooling = optax.linear_schedule(8.0, 2.0, 4)
    values, metrics = run(build(temperature=cooling), 3)
    constant, others = run(build(temperature=3.5), None)
    assert float(metrics["temperature"]) == 3.5
    assert "temperature" not in others
    np.testing.assert_allclose(values, constant, rtol=2e-6)


def test_a_temperature_of_the_epoch_is_that_of_the_epoch():
    cooling = distillers.EpochSchedule(lambda epoch: 4.0 - epoch)
    _, metrics = run(
        weighted(kd=(1.0, distillers.soft_targets(temperature=cooling))), 4
    )
    np.testing.assert_allclose(metrics["kd/temperature"], 4 - 4 / 3, rtol=1e-6)


def test_the_temperature_of_your_own_loss_may_be_a_schedule():
    def loss(student, teacher, *, temperature):
        return jnp.sum(student - teacher, axis=-1) / temperature

    distiller = distillers.from_loss(
        loss, reads="logits", temperature=optax.exponential_decay(4.0, 1, 0.5)
    )
    values, metrics = run(distiller, 1)
    assert float(metrics["temperature"]) == 2.0
    np.testing.assert_allclose(values, (DRAWN[0] - DRAWN[1]).sum(-1) / 2, rtol=1e-5)


@pytest.mark.parametrize("build", TEMPERED.values(), ids=TEMPERED)
def test_a_temperature_that_begins_at_zero_is_refused(build):
    with pytest.raises(InvalidInputError, match="its schedule at step 0") as caught:
        build(temperature=optax.linear_schedule(0.0, 4.0, 10))
    assert caught.value.argument == "temperature"
