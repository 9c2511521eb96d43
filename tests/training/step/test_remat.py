"""Activations that are computed again in the backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, make_dataset
from training_support import NormalizedMLP

from jaxkd import InvalidInputError, distillers, models, training
from jaxkd.models import ModelOutput
from jaxkd.training._step import remat

HIDDEN, BLOCKS = 8, 3


class Block(nnx.Module):
    """Batch statistics and dropout, between two linear layers."""

    def __init__(self, width, rngs):
        self.first = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x):
        inner = jax.nn.gelu(self.dropout(self.norm(self.first(x))))
        return jnp.tanh(self.second(jnp.sin(inner))) + x


class Network(nnx.Module):
    """Blocks that may be computed again."""

    def __init__(self, rngs, width=HIDDEN, blocks=BLOCKS):
        self.stem = nnx.Linear(64, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(blocks)])
        self.classifier = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, images):
        x = self.stem(images.reshape(len(images), -1))
        for block in self.blocks:
            x = models.call_block(block, x)
        return ModelOutput(self.classifier(x), x)


def compile_program(build, **settings):
    return training.compile_program(
        build,
        make_dataset(),
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=16,
        **settings,
    )


@pytest.mark.parametrize("trials", [None, 2])
def test_steps_are_the_same_with_their_statistics_and_dropout(trials):
    ends = []
    for again in (False, True):
        program = compile_program(Network, remat=again, trials=trials, fused=True)
        loop = program.start(0)
        for _ in range(2):
            loop, _ = program.training.advance(loop, program.order(loop))
        ends.append(arrays(loop))
    for plain, again in zip(*ends, strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-5, atol=1e-6)


def test_outputs_of_blocks_are_recorded_with_their_gradient():
    graphdef, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))

    def square(params, again):
        forward = remat.make_forward(graphdef, remat=again, layers=("blocks.1",))
        output, _ = forward(params, rest, images)
        return jnp.sum(output.layers["blocks.1"][0] ** 2)

    both = (jax.value_and_grad(square)(params, again) for again in (False, True))
    for plain, again in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_gradient_needs_less_memory():
    rows, width, blocks = 2048, 64, 8
    graphdef, params, rest = nnx.split(
        Network(nnx.Rngs(0), width, blocks), nnx.Param, ...
    )
    images = jnp.zeros((rows, 8, 8, 1))

    def scratch(again):
        forward = remat.make_forward(graphdef, remat=again)
        loss = lambda *given: jnp.sum(forward(*given)[0].logits)
        lowered = jax.jit(jax.grad(loss)).lower(params, rest, images)
        compiled = lowered.compile(remat.compiler_options(remat=again))
        return compiled.memory_analysis().temp_size_in_bytes

    inputs_of_blocks = blocks * rows * width * 4
    assert inputs_of_blocks < scratch(True) < 0.6 * scratch(False)


def test_the_forward_pass_is_in_the_gradient_twice():
    graphdef, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)

    def sines(again):
        forward = remat.make_forward(graphdef, remat=again)
        loss = lambda *given: jnp.sum(forward(*given)[0].logits)
        given = params, rest, jnp.zeros((2, 8, 8, 1))
        program = jax.make_jaxpr(jax.grad(loss))(*given)
        return sum(e.primitive.name == "sin" for e in remat._equations(program.jaxpr))

    assert (sines(False), sines(True)) == (BLOCKS, 2 * BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "resnet8", "wrn_16_1", "vgg8"])
def test_networks_have_blocks_to_compute_again(name):
    check_network(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_network_has_blocks_to_compute_again(name):
    check_network(name)


def check_network(name):
    size = 224 if "vit" in name else 32
    module = nnx.eval_shape(
        lambda: models.build(
            name, num_classes=4, image_shape=(size, size, 3), rngs=nnx.Rngs(0)
        )
    )
    remat.check_blocks(module, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))


def test_a_network_without_blocks_is_refused():
    with pytest.raises(InvalidInputError, match=r"NormalizedMLP does") as e:
        compile_program(NormalizedMLP, remat=True)
    assert e.value.argument == "remat"
