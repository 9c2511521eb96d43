import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import build_resnet, make_dataset

from jaxkd import data, distillers, models, training
from jaxkd._errors import InvalidInputError

DATASET = make_dataset()
NORMALIZATION = data.channel_statistics(DATASET.train.images)


@pytest.fixture(scope="module")
def network():
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


def test_a_folded_network_is_refused_as_a_student_before_anything_is_computed(network):
    with pytest.raises(InvalidInputError, match="cannot be trained"):
        training.compile_program(
            lambda rngs: models.fold_batch_norms(build_resnet()(rngs)),
            DATASET,
            distillers.cross_entropy(),
            optimizer=optax.sgd(0.1),
            batch_size=8,
        )
