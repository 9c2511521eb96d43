import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import build_mlp

from jaxkd import distillers, training
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Batch, Classifier, Spec
from jaxkd.models import ModelOutput

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

CLASSES = 5
LABELS = np.arange(8, dtype=np.int32) % CLASSES


def outputs(dtype=np.float32):
    rng = np.random.default_rng(0)
    return tuple(
        ModelOutput(
            jnp.asarray(rng.normal(size=(8, CLASSES)), dtype),
            jnp.asarray(rng.normal(size=(8, width)), dtype),
        )
        for width in (6, 4)
    )


def classifier(dtype=np.float32):
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(4, CLASSES)), rng.normal(size=CLASSES)
    return Classifier(jnp.asarray(kernel, dtype), jnp.asarray(bias, dtype))


def start(dtype=np.float32):
    student, teacher = outputs(dtype)
    method = distillers.softmax_regression()
    spec = Spec(student, teacher, CLASSES, LABELS, classifier(dtype))
    state = method.init(nnx.Rngs(0), spec)
    return method, jax.tree.map(lambda x: x.astype(dtype), state), student, teacher


def batch():
    labels = jnp.asarray(LABELS)
    return Batch(jnp.zeros((8, 1, 1, 1)), labels, labels, jax.random.key(0))


def test_the_loss_matches_the_definition():
    # Batch normalization computes its statistics in float32.
    method, state, student, teacher = start(np.float32)
    value, _, metrics = jax.jit(method.loss)(*state, student, teacher, batch())
    x = np.asarray(student.embedding) @ np.asarray(state.params["linear"]["kernel"])
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    x = np.maximum(x, 0)
    first = np.square(x - np.asarray(teacher.embedding)).mean(1)
    logits = x @ np.asarray(state.extra["classifier"].kernel)
    logits = logits + np.asarray(state.extra["classifier"].bias)
    second = np.square(logits - np.asarray(teacher.logits)).mean(1)
    np.testing.assert_allclose(value, first + second, rtol=1e-5)
    np.testing.assert_allclose(metrics["logits"], second.mean(), rtol=1e-5)


def test_the_connector_is_trained_and_the_classifier_is_not():
    method, state, student, teacher = start(np.float32)

    def total(params):
        value, extra, _ = method.loss(params, state.extra, student, teacher, batch())
        return value.mean(), extra

    gradient, extra = jax.grad(total, has_aux=True)(state.params)
    assert all(np.any(g) for g in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(
        extra["classifier"].kernel, state.extra["classifier"].kernel
    )
    moved = jax.tree.map(
        lambda a, b: np.any(a != b), state.extra["statistics"], extra["statistics"]
    )
    assert all(jax.tree.leaves(moved))


def test_a_frozen_network_brings_its_classifier():
    network = build_mlp()(nnx.Rngs(0))
    found = training.freeze(network).classifier
    output = network(jnp.ones((2, 8, 8, 1)))
    np.testing.assert_allclose(found(output.embedding), output.logits, rtol=1e-6)


def test_a_teacher_without_a_linear_classifier_is_refused():
    frozen = training.freeze(lambda images: (images, images))
    assert frozen.classifier is None
    student, teacher = outputs(np.float32)
    with pytest.raises(InvalidInputError, match="uses the teacher's classifier"):
        distillers.softmax_regression().init(
            nnx.Rngs(0), Spec(student, teacher, CLASSES, LABELS)
        )
