import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from model_support import quickly_built
from support import build_mlp, build_resnet, make_dataset

from jaxkd import data, distillers, models, training
from jaxkd._errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DATASET = make_dataset()
NORMALIZATION = data.channel_statistics(DATASET.train.images)


@pytest.fixture(scope="module")
def network(quickly_compiled):
    """A resnet8 whose statistics are not those it starts with."""
    model = build_resnet()(nnx.Rngs(0))
    rng = np.random.default_rng(0)
    statistics = jax.tree.map(
        lambda p: p + jnp.asarray(rng.uniform(0.1, 0.9, p.shape), p.dtype),
        nnx.state(model, nnx.BatchStat),
    )
    nnx.update(model, statistics)
    return model


def test_a_frozen_teacher_is_folded_and_predicts_what_the_network_does(network):
    plain = training.freeze(network, NORMALIZATION)
    teacher = training.freeze_teacher(network, NORMALIZATION)
    assert len(jax.tree.leaves(teacher.variables)) < len(
        jax.tree.leaves(plain.variables)
    )
    images = DATASET.test.images
    expected = jax.jit(plain.apply)(plain.variables, images).logits
    actual = jax.jit(teacher.apply)(teacher.variables, images).logits
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_a_frozen_teacher_brings_its_classifier(network):
    found = training.freeze_teacher(network).classifier
    np.testing.assert_array_equal(found.kernel, network.classifier.kernel[...])


def test_a_student_that_reuses_a_classifier_brings_it_as_a_teacher():
    kernel, bias = np.arange(24.0, dtype=np.float32).reshape(6, 4), np.ones(4, "f")
    reused = models.ReusedClassifier(
        quickly_built(build_resnet()), 16, kernel, bias, rngs=nnx.Rngs(0)
    )
    found = training.freeze_teacher(reused).classifier
    np.testing.assert_array_equal(found.kernel, kernel)
    np.testing.assert_array_equal(found.bias, bias)


def test_a_folded_network_is_refused_as_a_student_before_anything_is_computed(network):
    with pytest.raises(InvalidInputError, match="cannot be trained"):
        training.compile_program(
            lambda rngs: models.fold_batch_norms(build_resnet()(rngs)),
            DATASET,
            distillers.cross_entropy(),
            optimizer=optax.sgd(0.1),
            batch_size=8,
        )


class KeepsItsRandomness(nnx.Module):
    """A network with an Rngs for its dropout, as its user may write it."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(64, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)
        self.rngs = rngs

    def __call__(self, images):
        x = images.reshape(len(images), -1)
        return models.ModelOutput(self.linear(self.dropout(x, rngs=self.rngs)), x)


def test_a_view_of_a_network_that_keeps_an_rngs_draws_nothing_from_it():
    model = KeepsItsRandomness(nnx.Rngs(0))
    count = int(model.rngs.default.count[...])
    view = training.inference_view(model)
    assert view.dropout.deterministic
    assert int(view.rngs.default.count[...]) == count
    nnx.eval_shape(lambda: training.inference_view(KeepsItsRandomness(nnx.Rngs(0))))


def test_a_network_that_keeps_an_rngs_can_be_trained():
    program = training.compile_program(
        KeepsItsRandomness,
        DATASET,
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.01),
        batch_size=8,
    )
    _, history = training.fit(program, program.start(0), epochs=2)
    assert history[-1]["train/loss"] < history[0]["train/loss"]


class Returning(nnx.Module):
    """Returns what a function makes of logits."""

    def __init__(self, make):
        self.linear = nnx.Linear(64, 4, rngs=nnx.Rngs(0))
        self.make = make

    def __call__(self, images):
        return self.make(self.linear(images.reshape(len(images), -1)))


WRONG = [
    pytest.param(
        lambda x: x[:, None],
        r"logits of shape .*, got \[\d+, 1, 4\]",
        id="unpooled logits",
    ),
    pytest.param(lambda x: (x, x), "got a tuple of length 2", id="tuple"),
    pytest.param(lambda x: {"logits": x}, "got a dict", id="dict"),
    pytest.param(
        lambda x: models.ModelOutput(x, x[:, None, None]),
        r"embedding of shape \[batch, features\], got \[\d+, 1, 1, 4\]",
        id="unpooled",
    ),
]


@pytest.mark.parametrize("make, says", WRONG)
def test_a_student_that_returns_something_else_is_refused_at_once(make, says):
    with pytest.raises(InvalidInputError, match=rf"the student \(Returning\).*{says}"):
        training.compile_program(
            lambda rngs: Returning(make),
            DATASET,
            distillers.cross_entropy(),
            optimizer=optax.sgd(0.1),
            batch_size=8,
        )


@pytest.mark.parametrize("make, says", WRONG)
def test_a_teacher_that_returns_something_else_is_refused_at_once(make, says):
    with pytest.raises(InvalidInputError, match=rf"Returning must return.*{says}"):
        training.compile_program(
            build_mlp(),
            DATASET,
            distillers.recipe("kd"),
            optimizer=optax.sgd(0.1),
            batch_size=8,
            teacher=training.freeze_teacher(Returning(make)),
        )


def test_the_value_of_a_function_is_its_logits_even_for_two_images():
    frozen = training.freeze(lambda images: images.reshape(len(images), -1))
    output = frozen.apply(frozen.variables, DATASET.test.images[:2])
    assert output.logits.shape == (2, 64)
    assert output.embedding.shape == (2, 0)
