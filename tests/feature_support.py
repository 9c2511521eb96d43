"""Made-up outputs of networks with feature maps, shared by tests of distillers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import distillers, heads
from jaxkd.models import ModelOutput

LABELS = np.array([0, 2, 1, 2], np.int32)
# Stage 1 twice as large at the student, stage 2 half as large.
SHAPES = {
    "student": ((4, 4, 2), (4, 4, 3), (2, 2, 4)),
    "teacher": ((4, 4, 2), (2, 2, 4), (4, 4, 5)),
}


def outputs(dtype=np.float32, seed=0):
    """(student, teacher) of a random batch; stages after, and before, a softplus."""
    rng = np.random.default_rng(seed)

    def output(shapes):
        draw = lambda *shape: jnp.asarray(
            rng.normal(0.3, 1.0, (len(LABELS), *shape)), dtype
        )
        before = tuple(draw(*shape) for shape in shapes)
        return ModelOutput(
            draw(3), draw(2), tuple(map(jax.nn.softplus, before)), before
        )

    return tuple(output(shapes) for shapes in SHAPES.values())


def without_stages(output):
    return output._replace(stages=(), preactivations=())


def spec_of(student, teacher):
    return distillers.Spec(student, teacher, 3, LABELS)


def batch():
    return distillers.Batch(
        jnp.zeros((len(LABELS), 4, 4, 1), jnp.uint8),
        jnp.asarray(LABELS),
        jnp.arange(len(LABELS)),
        jax.random.key(0),
    )


def built(make):
    """A module, all of its parameters drawn in one program."""
    return nnx.jit(lambda: make(nnx.Rngs(0)))()


def start(method):
    """A distiller and its state."""
    state = jax.jit(lambda key: method.init(nnx.Rngs(key), spec_of(*outputs())))(
        jax.random.key(0)
    )
    return method, state.params, state.extra


def run(loss, params, extra):
    """The compiled loss on the made-up outputs: values, the next state, metrics."""
    return jax.jit(loss)(params, extra, *outputs(), batch())


def apply(make, params, rest, x, method="__call__"):
    """What a head of these arrays makes of x, and its arrays afterwards."""

    def call(params, rest, x):
        module = heads.bind_heads(make, params, rest)
        return getattr(module, method)(x), heads.rest_of(module)

    return jax.jit(call)(params, rest, x)


def gradients(loss, params, extra, student, teacher):
    """Of the summed loss, with respect to parameters, student and teacher."""
    total = lambda p, s, t: loss(p, extra, s, t, batch())[0].sum()
    return jax.jit(jax.grad(total, argnums=(0, 1, 2)))(params, student, teacher)
