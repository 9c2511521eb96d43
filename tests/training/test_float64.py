"""Float64 networks, from the first step to the evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from flax import nnx
from support import arrays, make_dataset

from jaxkd import data, distillers, models, training

pytestmark = pytest.mark.usefixtures("x64", "quickly_compiled")


def builder(name, width):
    def build(rngs: nnx.Rngs) -> nnx.Module:
        return models.build(
            name,
            num_classes=4,
            image_shape=(8, 8, 1),
            width=width,
            dtype=jnp.float64,
            rngs=rngs,
        )

    return build


def dtypes(tree):
    return {leaf.dtype for leaf in arrays(tree)}


def test_an_mlp_takes_the_step_that_float64_arithmetic_gives():
    build = builder("mlp", 16)
    # Images that need no arithmetic of their own: it is float32, and compiled otherwise
    # than eager.
    images, labels = make_dataset(24).train
    images = images.astype(np.float32) / 256
    split = data.Split(images, labels)
    dataset = dataclasses.replace(make_dataset(24), train=split, test=split)
    teacher = training.freeze(build(nnx.Rngs(1)))
    program = training.compile_program(
        build,
        dataset,
        distillers.recipe("kd"),
        optimizer=optax.sgd(0.1),
        batch_size=12,
        teacher=teacher,
        normalization=data.Normalization(np.zeros(1), np.ones(1)),
    )
    loop = program.start(0)
    order = program.order(loop)
    rows = np.asarray(order)[:12]
    graphdef, before, _ = nnx.split(program.student(loop), nnx.Param, ...)

    @jax.jit
    @jax.value_and_grad
    def by_hand(params):
        z = nnx.merge(graphdef, params)(images[rows]).logits
        v = teacher.apply(teacher.variables, images[rows]).logits
        p, q = jax.nn.softmax(v / 4), jax.nn.softmax(z / 4)
        ce = -jnp.mean(jax.nn.log_softmax(z)[np.arange(12), labels[rows]])
        return 0.1 * ce + 0.9 * 16 * jnp.mean(jnp.sum(p * jnp.log(p / q), -1))

    loss, grads = by_hand(before)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before, grads)
    loop, report = program.training.advance(loop, order)
    np.testing.assert_allclose(report.metrics["loss"], loss, rtol=1e-12)
    assert dtypes(loop.train.student) == {np.dtype("float64")}
    for ours, theirs in zip(arrays(loop.train.student), arrays(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


@pytest.mark.slow
def test_a_residual_network_trains_in_float64_and_is_evaluated():
    build, dataset = builder("resnet8", 4), make_dataset(24)
    program = training.compile_program(
        build,
        dataset,
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.1, momentum=0.9),
        batch_size=24,
    )
    loop, history = training.fit(program, program.start(0), epochs=1)
    for tree in (loop.train.student, loop.train.rest, loop.monitor.totals):
        assert dtypes(tree) == {np.dtype("float64")}
    # What passed through float32 on its way would be a float32 number.
    for leaf in arrays((loop.train.student, loop.train.rest)):
        assert (leaf != leaf.astype(np.float32)).any()
    assert np.isfinite(history[-1]["test/loss"])

    frozen = training.freeze(program.student(loop), program.normalization)
    output = jax.eval_shape(frozen.apply, frozen.variables, dataset.test.images)
    assert output.logits.dtype == jnp.float64


def test_evaluation_of_float64_logits_matches_its_definition():
    split = make_dataset().test
    network = training.freeze(builder("mlp", 16)(nnx.Rngs(0)))
    logits = np.asarray(network.apply(network.variables, split.images).logits)
    assert logits.dtype == np.float64
    result = training.evaluate(network, split, batch_size=16)
    assert result.accuracy == pytest.approx(np.mean(logits.argmax(-1) == split.labels))
    log_q = scipy.special.log_softmax(logits, axis=-1)
    expected = -log_q[np.arange(23), split.labels].mean()
    assert result.loss == pytest.approx(expected, rel=1e-6)
