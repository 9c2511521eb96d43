"""A frozen teacher that computes in another dtype than it was trained in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import build_mlp, build_resnet, make_dataset

from jaxkd import InvalidInputError, data, distillers, models, training
from jaxkd.models import ModelOutput

pytestmark = pytest.mark.usefixtures("quickly_compiled")

DATASET = make_dataset()
NORMALIZATION = data.channel_statistics(DATASET.train.images)
# Half a unit in the last place of bfloat16.
ROUNDING = 2.0**-9


def outputs(network, dtype=None):
    teacher = training.freeze_teacher(network, NORMALIZATION, dtype=dtype)
    return jax.jit(teacher.apply)(teacher.variables, DATASET.test.images)


@pytest.mark.parametrize("build", [build_mlp, build_resnet])
def test_outputs_are_float32_and_close_to_those_in_float32(build):
    network = build()(nnx.Rngs(0))
    expected, actual = outputs(network), outputs(network, jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(actual)} == {jnp.dtype("float32")}
    for a, b in zip(*map(jax.tree.leaves, (expected, actual)), strict=True):
        difference = np.linalg.norm(a - b) / np.linalg.norm(a)
        assert 0 < difference < 5 * ROUNDING


def test_the_layers_compute_as_in_a_network_that_was_built_in_the_dtype():
    settings = {"num_classes": 4, "image_shape": (8, 8, 1), "width": 16}
    build = lambda dtype: models.build("mlp", **settings, dtype=dtype, rngs=nnx.Rngs(0))
    built = outputs(build(jnp.bfloat16)).embedding
    converted = outputs(build(None), jnp.bfloat16).embedding
    np.testing.assert_array_equal(built.astype(jnp.float32), converted)


def test_weights_are_converted_once_and_statistics_and_the_given_network_are_not():
    network = build_resnet()(nnx.Rngs(0))
    before = jax.tree.map(jnp.copy, nnx.state(network))
    teacher = training.freeze_teacher(network, NORMALIZATION, dtype=jnp.bfloat16)
    weights = nnx.to_flat_state(nnx.filter_state(teacher.variables["state"], nnx.Param))
    assert {variable.get_value().dtype.name for _, variable in weights} == {"bfloat16"}
    assert teacher.classifier.kernel.dtype == jnp.float32
    assert jax.tree.all(jax.tree.map(np.array_equal, before, nnx.state(network)))
    program = jax.make_jaxpr(teacher.apply)(teacher.variables, DATASET.test.images)
    weights_cast = [
        equation
        for equation in program.eqns
        if equation.primitive.name == "convert_element_type"
        and equation.invars[0] in program.jaxpr.invars
        and equation.invars[0].aval.ndim > 1
        and equation.invars[0].aval.dtype != jnp.uint8
    ]
    assert weights_cast == []


class Normalized(nnx.Module):
    """A network with a normalization that promotes, as users write them."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.classifier = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, images):
        embedding = self.norm(self.hidden(images.reshape(len(images), -1)))
        return ModelOutput(self.classifier(embedding), embedding)


def test_a_network_of_the_user_with_a_normalization_is_converted():
    network = Normalized(nnx.Rngs(0))
    expected, actual = outputs(network), outputs(network, "bfloat16")
    np.testing.assert_allclose(expected.logits, actual.logits, atol=20 * ROUNDING)
    assert np.any(expected.logits != actual.logits)


@pytest.mark.parametrize(
    "network, dtype, says",
    [
        (build_mlp()(nnx.Rngs(0)), jnp.int8, "must be floating point"),
        (lambda images: (images, images), "bfloat16", "no convolution or linear"),
    ],
)
def test_what_cannot_be_converted_is_refused(network, dtype, says):
    with pytest.raises(InvalidInputError, match=says) as caught:
        training.freeze_teacher(network, NORMALIZATION, dtype=dtype)
    assert caught.value.argument == "dtype"


def test_a_student_learns_from_a_teacher_in_bfloat16():
    teacher = build_mlp()(nnx.Rngs(7))
    program = training.compile_program(
        build_mlp(),
        DATASET,
        distillers.soft_targets(temperature=4.0),
        optimizer=optax.sgd(0.1),
        batch_size=16,
        teacher=training.freeze_teacher(teacher, NORMALIZATION, dtype=jnp.bfloat16),
    )
    loop = program.start(0)
    _, report = program.training.advance(loop, program.order(loop))
    assert report.metrics["loss"].dtype == jnp.float32
    assert np.isfinite(report.metrics["loss"])
