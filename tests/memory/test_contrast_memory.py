"""The memory of the fused pass, as XLA compiles it with all optimizations."""

import jax
import jax.numpy as jnp
import pytest
from memory_support import CLASSES, SAMPLERS

from jaxkd import memory

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.mark.parametrize(
    "name", ["sampled", pytest.param("all", marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_batch_times_rows(name):
    rows, batch, dim, chunk = 20_000, 32, 8, 256
    labels = jnp.arange(rows, dtype=jnp.int32) % CLASSES
    anchors, table = jnp.ones((2, batch, dim)), jnp.ones((rows, dim))

    def fn(anchors, table, key):
        negatives = SAMPLERS[name](
            key, labels[:batch], labels, num_negatives=8, num_classes=CLASSES
        )
        return memory.negative_log_sum_exp(
            anchors, table, negatives, temperature=0.1, chunk_size=chunk
        )

    key = jax.random.key(0)
    pull = lambda a: jax.vjp(lambda a: fn(a, table, key), a)[1]
    pullback = jax.eval_shape(pull, anchors)
    kept = max(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept == anchors.size

    gradient = jax.grad(lambda *args: fn(*args).sum())
    compiled = jax.jit(gradient).lower(anchors, table, key).compile()
    scratch = compiled.memory_analysis().temp_size_in_bytes
    scores = 2 * chunk * batch * 4
    orders = 8 * rows * 4  # what sampling sorts
    assert scratch < 6 * scores + orders < 4 * batch * rows
