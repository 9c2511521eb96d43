import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers
from jaxkd._errors import InvalidInputError
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")


def constant(value, *, draws=False):
    """A distiller whose loss is a parameter, and whose state counts its calls."""

    def init(rngs, spec):
        return distillers.DistillerState({"scale": jnp.float32(value)}, jnp.int32(0))

    def loss(params, extra, student, teacher, batch):
        per_example = params["scale"] * jnp.ones(len(batch.labels))
        if draws:
            per_example = per_example * jax.random.uniform(batch.key)
        return per_example, extra + 1, {"calls": extra}

    return distillers.Distiller(init, loss)


@pytest.fixture
def batch():
    return distillers.Batch(
        images=jnp.zeros((3, 8, 8, 1), jnp.uint8),
        labels=jnp.array([0, 1, 2]),
        rows=jnp.arange(3),
        key=jax.random.key(0),
    )


@pytest.fixture
def outputs():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
    return [ModelOutput(jnp.asarray(x), jnp.zeros((3, 2))) for x in logits]


def spec_of(student, teacher):
    return distillers.Spec(student, teacher, 5, np.array([0, 1, 2, 3, 4]))


def run(distiller, outputs, batch):
    state = distiller.init(nnx.Rngs(0), spec_of(*outputs))
    return distiller.loss(state.params, state.extra, *outputs, batch)


def test_sums_the_weighted_losses(outputs, batch):
    mixed = distillers.weighted(a=(2.0, constant(3.0)), b=(0.5, constant(8.0)))
    per_example, _, _ = run(mixed, outputs, batch)
    np.testing.assert_allclose(per_example, np.full(3, 2 * 3 + 0.5 * 8))


def test_reports_each_part_unweighted_and_its_metrics_under_its_name(outputs, batch):
    mixed = distillers.weighted(a=(2.0, constant(3.0)), b=(0.5, constant(8.0)))
    _, _, metrics = run(mixed, outputs, batch)
    expected = {"a": 3.0, "b": 8.0, "a/calls": 0, "b/calls": 0}
    assert {name: float(value) for name, value in metrics.items()} == expected


def test_keeps_each_parts_state_apart(outputs, batch):
    mixed = distillers.weighted(a=(1.0, constant(1.0)), b=(1.0, constant(1.0)))
    _, extra, _ = run(mixed, outputs, batch)
    assert {name: int(value) for name, value in extra.items()} == {"a": 1, "b": 1}


def test_parts_draw_different_randomness(outputs, batch):
    part = constant(1.0, draws=True)
    mixed = distillers.weighted(a=(1.0, part), b=(1.0, part))
    _, _, metrics = run(mixed, outputs, batch)
    assert float(metrics["a"]) != float(metrics["b"])


def test_a_part_of_weight_zero_is_not_even_initialized(outputs):
    def init(rngs, spec):
        raise AssertionError("a part of weight zero was initialized")

    silent = distillers.Distiller(init, constant(1.0).loss)
    mixed = distillers.weighted(a=(1.0, constant(1.0)), b=(0.0, silent))
    state = mixed.init(nnx.Rngs(0), spec_of(*outputs))
    assert set(state.params) == {"a"}


def test_gradient_reaches_the_parameters_of_each_part_with_its_weight(outputs, batch):
    mixed = distillers.weighted(a=(2.0, constant(3.0)), b=(0.5, constant(8.0)))
    state = mixed.init(nnx.Rngs(0), spec_of(*outputs))
    grads = jax.grad(lambda p: mixed.loss(p, state.extra, *outputs, batch)[0].mean())(
        state.params
    )
    assert {k: float(v["scale"]) for k, v in grads.items()} == {"a": 2.0, "b": 0.5}


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_refuses_a_weight_that_is_not_finite(weight):
    with pytest.raises(ValueError, match="weight of a must be finite"):
        distillers.weighted(a=(weight, constant(1.0)))


@pytest.mark.parametrize(
    "name", ["loss", "accuracy", "skipped", "grad_norm", "learning_rate"]
)
def test_refuses_the_names_of_the_steps_own_metrics(name):
    with pytest.raises(InvalidInputError, match=f"{name} is the name of a metric"):
        distillers.weighted(**{name: (1.0, constant(1.0))})


def test_refuses_a_part_without_a_weight_and_says_what_to_write():
    unchecked = inspect.unwrap(distillers.weighted)
    with pytest.raises(TypeError, match=r"write ce=\(1.0, distiller\)") as error:
        unchecked(ce=constant(1.0))
    assert error.value.argument == "ce"


def test_refuses_a_mixture_of_nothing():
    with pytest.raises(ValueError, match="needs a part"):
        distillers.weighted(a=(0.0, constant(1.0)))


@pytest.mark.parametrize("weight", [-1.0, -1e-9, float("-inf")])
def test_refuses_a_negative_weight_with_the_reason(weight):
    with pytest.raises(InvalidInputError, match="training would maximize the loss"):
        distillers.weighted(a=(weight, constant(1.0)))


@pytest.mark.parametrize(
    "part, says",
    [
        (1.0, r"ce must be a weight and a distiller, such as ce=\(1.0, "),
        ((1.0,), "ce must be a weight and a distiller"),
        ((1.0, distillers.cross_entropy), "must be a distiller, got .*call it to"),
        ((1.0, None), "the second entry of ce must be a distiller, got None"),
        ((constant(1.0), 1.0), "the second entry of ce must be a distiller, got 1.0"),
        (("1", constant(1.0)), "the weight of ce must be a number, got '1'"),
        ((True, constant(1.0)), "the weight of ce must be a number, got True"),
        ((np.ones(2), constant(1.0)), "the weight of ce must be a number, got arr"),
        ((jnp.ones(2), constant(1.0)), "the weight of ce must be a number, got Arr"),
    ],
)
def test_refuses_a_part_that_is_no_pair_of_a_weight_and_a_distiller(part, says):
    with pytest.raises(TypeError, match=says) as error:
        inspect.unwrap(distillers.weighted)(ce=part)
    assert error.value.argument == "ce"


@pytest.mark.parametrize("weight", [1, np.float32(1.0), jnp.float32(1.0)])
def test_takes_a_number_of_any_kind_as_a_weight(weight, outputs, batch):
    unchecked = inspect.unwrap(distillers.weighted)
    per_example, _, _ = run(unchecked(a=(weight, constant(3.0))), outputs, batch)
    np.testing.assert_array_equal(per_example, np.full(3, 3.0))
