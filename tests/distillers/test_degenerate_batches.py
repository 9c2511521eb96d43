"""Methods that relate examples, on batches with nothing to relate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxkd import distillers
from jaxkd.distillers import Views
from jaxkd.models import ModelOutput

# Each method is compiled anew for each size of a batch.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

CLASSES, SHAPES = 3, ((4, 4, 4),) * 3
METHODS = {
    m.part: m.build
    for m in distillers.METHODS
    if m.part
    in {"dist", "mlkd", "sp", "pkt", "cc", "cck", "rkd", "sskd", "ickd", "crd", "hkd"}
}
# Kinds of examples by the size of the batch; the graph of hkd has 8 neighbors.
BATCHES = {1: ["drawn", "zeros"], 2: ["drawn", "equal"], 4: ["drawn", "equal", "zeros"]}
CASES = [
    (part, size) for part in METHODS for size in BATCHES if (part, size) != ("cc", 1)
]


def output(size, kind, seed):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        x = rng.normal(0.3, 1.0, (size, *shape)).astype(np.float32)
        x = {"drawn": x, "equal": np.tile(x[:1], (size, *(1 for _ in shape)))}.get(
            kind, np.zeros_like(x)
        )
        return jnp.asarray(x)

    maps = tuple(draw(*shape) for shape in SHAPES)
    return ModelOutput(draw(CLASSES), draw(4), tuple(map(jax.nn.relu, maps)), maps)


def lesson(method, size, kind):
    """Outputs, the batch and the specification; class 0 has a single example."""
    student, teacher = (output(size, kind, seed) for seed in (0, 1))
    labels = np.array([0, 1, 2, 1], np.int32)
    rows = jnp.arange(size)
    batch = distillers.Batch(
        jnp.zeros((size, 4, 4, 1)), jnp.asarray(labels[:size]), rows, jax.random.key(0)
    )
    if method.views is not None:
        views = (output(3 * size, kind, seed) for seed in (2, 3))
        batch = batch._replace(views=Views(*views))
    return student, teacher, batch, distillers.Spec(student, teacher, CLASSES, labels)


def differentiated(loss):
    def total(params, student, extra, teacher, batch):
        values, extra, metrics = loss(params, extra, student, teacher, batch)
        return jnp.mean(values), (extra, metrics)

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("part, size", CASES)
def test_value_gradient_state_and_metrics_are_finite(part, size):
    method = METHODS[part]()
    stages = [method.loss, method.loss]  # the second reads what the first has stored
    if method.pretraining is not None:
        stages.insert(0, method.pretraining.loss)
    compiled = {loss: differentiated(loss) for loss in stages}
    for kind in BATCHES[size]:
        student, teacher, batch, spec = lesson(method, size, kind)
        params, extra = method.init(nnx.Rngs(0), spec)
        for loss in stages:
            (value, (extra, metrics)), gradients = compiled[loss](
                params, student, extra, teacher, batch
            )
            for x in jax.tree.leaves((value, extra, metrics, gradients)):
                assert np.isfinite(np.asarray(x, np.float32)).all(), kind
            if method.pretraining is not None and loss is method.pretraining.loss:
                params, extra = method.pretraining.finish(params, extra)
