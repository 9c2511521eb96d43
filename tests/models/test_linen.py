import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from support import make_dataset

from jaxkd import distillers, models, training
from jaxkd._errors import InvalidInputError


class Network(linen.Module):
    """A convolution with batch statistics, and dropout."""

    classes: int = 4
    rate: float = 0.0

    @linen.compact
    def __call__(self, images, train: bool):
        x = linen.Conv(4, (3, 3), use_bias=False)(images)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = linen.relu(x)
        pooled = x.mean(axis=(1, 2))
        kept = linen.Dropout(self.rate, deterministic=not train)(pooled)
        return models.ModelOutput(linen.Dense(self.classes)(kept), pooled, (x,))


def make(rate=0.0, seed=0, **settings):
    return models.from_linen(
        Network(rate=rate), image_shape=(8, 8, 1), rngs=nnx.Rngs(seed), **settings
    )


def images(seed=0):
    x = np.random.default_rng(seed).normal(size=(6, 8, 8, 1))
    return jnp.asarray(x, jnp.float32)


def trained_variables():
    """Variables after one update of the statistics by Linen itself."""
    variables = Network().init(jax.random.key(3), images(), train=False)
    _, updates = Network().apply(
        variables, images(1), train=True, mutable=["batch_stats"]
    )
    return {**variables, **updates}


def states(model, kind):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, kind))]


def test_inference_with_given_variables_agrees_with_linen():
    variables = trained_variables()
    model = training.inference_view(make(variables=variables))
    expected = Network().apply(variables, images(), train=False)
    for ours, theirs in zip(
        jax.tree.leaves(model(images())), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_training_mode_updates_the_statistics_as_linen_does():
    variables = trained_variables()
    model = make(variables=variables)
    model(images(2))
    _, updates = Network().apply(
        variables, images(2), train=True, mutable=["batch_stats"]
    )
    expected = jax.tree.leaves(updates["batch_stats"])
    for ours, theirs in zip(states(model, nnx.BatchStat), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_inference_changes_nothing():
    model = make()
    before = states(model, nnx.Not(nnx.RngState))
    training.inference_view(model)(images())
    after = states(model, nnx.Not(nnx.RngState))
    for ours, theirs in zip(after, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_dropout_draws_new_numbers_in_each_training_step_and_none_in_inference():
    model = make(rate=0.5)
    first, second = (np.asarray(model(images()).logits) for _ in range(2))
    assert (first != second).any()
    model = training.inference_view(model)
    first, second = (np.asarray(model(images()).logits) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.fixture(scope="module")
def program():
    """KD of a Linen student by a Linen teacher."""
    teacher = training.freeze_teacher(make(seed=5, variables=trained_variables()))
    return training.compile_program(
        lambda rngs: models.from_linen(
            Network(rate=0.1), image_shape=(8, 8, 1), rngs=rngs
        ),
        make_dataset(),
        distillers.recipe("kd"),
        optimizer=optax.sgd(0.1),
        batch_size=16,
        teacher=teacher,
    )


def test_a_linen_student_learns_from_a_linen_teacher(program):
    start = program.start(0)
    statistics = [np.asarray(x) for x in jax.tree.leaves(start.train.rest["variables"])]
    loop, history = training.fit(program, start, epochs=3)
    assert history[-1]["train/loss"] < history[0]["train/loss"]
    moved = jax.tree.leaves(loop.train.rest["variables"])
    assert len(moved) == 2  # mean and variance
    for after, before in zip(moved, statistics, strict=True):
        assert (np.asarray(after) != before).all()


def test_evaluation_uses_the_running_statistics(program):
    loop = program.start(0)
    student = program.student(loop)
    split = make_dataset().test
    frozen = training.freeze(student, program.normalization)
    assert program.evaluate(loop).loss == training.evaluate(frozen, split).loss
    alone = frozen.apply(frozen.variables, split.images[:1]).logits
    together = frozen.apply(frozen.variables, split.images).logits
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5, atol=1e-6)


def test_arguments_that_the_module_does_not_accept_raise():
    with pytest.raises(InvalidInputError, match=r"Network cannot be called .*lambda"):
        make(arguments=lambda train: {"deterministic": not train})


def test_the_error_for_variables_of_another_module_names_them():
    variables = Network(classes=7).init(jax.random.key(0), images(), train=False)
    with pytest.raises(
        InvalidInputError, match=r"Dense_0/bias is \(7,\) and must be \(4,\)"
    ):
        make(variables=variables)


def test_the_error_for_missing_statistics_names_them():
    with pytest.raises(
        InvalidInputError, match="batch_stats/BatchNorm_0/mean is nothing"
    ):
        make(variables={"params": trained_variables()["params"]})


class Scaled(linen.Module):
    """Reads a collection of its own, and sows."""

    @linen.compact
    def __call__(self, images):
        x = images.reshape(len(images), -1)
        scale = self.variable("constants", "scale", lambda: jnp.float32(3))
        self.sow("intermediates", "x", x)
        return models.ModelOutput(scale.value * linen.Dense(4)(x), x)


def test_other_collections_are_read_but_not_changed_and_sown_values_are_dropped():
    model = models.from_linen(
        Scaled(), image_shape=(8, 8, 1), arguments=lambda train: {}, rngs=nnx.Rngs(0)
    )
    given = model.collections()
    assert set(given) == {"params", "constants"}
    given["constants"]["scale"] *= 2
    doubled = models.from_linen(
        Scaled(),
        image_shape=(8, 8, 1),
        variables=given,
        arguments=lambda train: {},
        rngs=nnx.Rngs(0),
    )
    expected = 2 * model(images()).logits
    np.testing.assert_allclose(doubled(images()).logits, expected, rtol=1e-6)
    assert set(doubled.collections()) == {"params", "constants"}


class Plain(linen.Module):
    """Neither statistics nor a flag."""

    @linen.compact
    def __call__(self, images):
        x = images.reshape(len(images), -1)
        return models.ModelOutput(linen.Dense(4)(x), x)


def test_the_bridge_of_flax_alone_serves_a_module_without_statistics_and_flag():
    def build(rngs):
        return nnx.bridge.ToNNX(Plain(), rngs=rngs).lazy_init(images())

    program = training.compile_program(
        build,
        make_dataset(),
        distillers.recipe("kd"),
        optimizer=optax.sgd(0.05),
        batch_size=16,
        teacher=training.freeze_teacher(build(nnx.Rngs(1))),
    )
    _, history = training.fit(program, program.start(0), epochs=2)
    assert history[-1]["train/loss"] < history[0]["train/loss"]
