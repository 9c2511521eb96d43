"""What networks of other people return, and how they are compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from support import make_dataset

from jaxkd import distillers, models, training
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.training._step import verify_inference_mode

pytestmark = pytest.mark.usefixtures("quickly_compiled", "unchecked")

SHAPE = (2, 2, 1)
IMAGES = np.random.default_rng(0).random((3, *SHAPE), np.float32)


def verify(network):
    frozen = training.freeze_teacher(network)
    verify_inference_mode(frozen, SHAPE, np.float32)
    return frozen


def flat(images):
    return images.reshape(len(images), -1)


def centered(images):
    """Values that depend on the batch, and those that do not."""
    x = flat(images)
    return x - x.mean(0, keepdims=True), x


def beside(constant):
    def network(images):
        x, _ = centered(images)
        other = jnp.full((len(x), 1), constant)
        return jnp.concatenate([x, other], 1), jnp.zeros_like(x)

    return network


def beside_a_large_output(images):
    x, own = centered(images)
    return jnp.concatenate([x, 1e4 * own], 1), own


def sometimes_infinite(images):
    x, own = centered(images)
    return jnp.where(x > 0, -jnp.inf, 0.0), own


@pytest.mark.parametrize(
    "network",
    [
        *(beside(-jnp.inf), beside(jnp.nan), beside(jnp.inf), beside(1e3)),
        *(beside_a_large_output, sometimes_infinite),
    ],
)
def test_other_outputs_do_not_hide_one_that_depends_on_the_batch(network):
    with pytest.raises(InvalidInputError, match="is not in inference mode"):
        verify(network)


@pytest.mark.parametrize("constant", [-jnp.inf, jnp.nan, 1e6])
def test_masked_and_large_outputs_are_accepted(constant):
    def network(images):
        x = flat(images)
        return jnp.concatenate([x, jnp.full((len(x), 1), constant)], 1), x

    verify(network)


@jax.jit
def compiled_function(images, train=False):
    return (-flat(images), flat(images)) if train else (flat(images), flat(images))


class CompiledForBoth(nnx.Module):
    @functools.partial(nnx.jit, static_argnames="train")
    def __call__(self, images, train=True):
        return models.ModelOutput(*compiled_function.__wrapped__(images, train))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, images, train: bool = True):
        x = linen.BatchNorm(use_running_average=not train, epsilon=0.0)(flat(images))
        return models.ModelOutput(x, x)


def bridged():
    network = nnx.bridge.ToNNX(Linen(), rngs=nnx.Rngs(0))
    return network.lazy_init(jnp.zeros((1, *SHAPE)), train=False)


@pytest.mark.parametrize("build", [lambda: compiled_function, CompiledForBoth, bridged])
def test_a_compiled_or_bridged_network_is_frozen_in_inference_mode(build):
    np.testing.assert_allclose(verify(build())(IMAGES).logits, flat(IMAGES), rtol=1e-6)


@jax.jit
def needs_the_flag(images, train=True):
    return compiled_function.__wrapped__(images, train)


def through_numpy(images):
    return np.asarray(images).reshape(len(images), -1), np.zeros((len(images), 2))


@pytest.mark.parametrize("network", [needs_the_flag, through_numpy])
def test_a_network_that_cannot_be_compiled_is_refused(network):
    with pytest.raises(InvalidInputError, match=r"cannot be compiled.*static_arg"):
        verify(network)


@pytest.mark.parametrize(
    "output, says",
    [
        (lambda x: (flat(x)[:1], flat(x)), r"one row of logits .*\[1, 4\] for 3 im"),
        (lambda x: (flat(x), x.reshape(-1, 1)), r"embedding for each.*\[12, 1\] for"),
        (lambda x: (flat(x), None), r"embedding of shape .*got NoneType"),
        (lambda x: (flat(x), "features"), r"embedding of shape .*got str"),
    ],
)
def test_an_output_of_another_shape_is_refused(output, says):
    with pytest.raises(InvalidInputError, match=says):
        training.freeze(output)(IMAGES)


def test_a_class_is_not_taken_for_a_network():
    with pytest.raises(InvalidTypeError, match=r"got the class MLP. Call it"):
        training.freeze(models.MLP)


class NeedsTheFlag(nnx.Module):
    @nnx.jit
    def __call__(self, images, train=False):
        return models.ModelOutput(*compiled_function.__wrapped__(images, train))


@pytest.mark.parametrize(
    "build, says",
    [
        (lambda rngs: NeedsTheFlag(), "the student .NeedsTheFlag. cannot be compiled"),
        (lambda rngs: bridged(), r"the student .ToNNX. cannot change.*from_linen"),
    ],
)
def test_a_student_that_cannot_be_trained_is_refused(build, says):
    with pytest.raises(InvalidInputError, match=says):
        training.compile_program(
            build,
            make_dataset(rows=8, test_rows=4, size=2),
            distillers.cross_entropy(),
            optimizer=optax.sgd(0.1),
            batch_size=4,
        )
