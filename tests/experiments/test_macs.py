import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments._macs import count_macs
from experiments.zoo_table import describe


class Network(nnx.Module):
    """Two convolutions, one of them grouped and strided, and a linear layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 8, (3, 3), padding=1, rngs=rngs)
        self.grouped = nnx.Conv(
            8, 12, (3, 5), strides=2, padding="VALID", feature_group_count=4, rngs=rngs
        )
        self.linear = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.grouped(jax.jit(self.conv)(x)))
        return self.linear(jnp.mean(x, axis=(1, 2)))


# 9x11 images; the second convolution leaves 4x4 of them.
BY_HAND = 9 * 11 * 8 * (3 * 3 * 3) + 4 * 4 * 12 * (3 * 5 * 8 // 4) + 12 * 10


@pytest.mark.parametrize("batch", [1, 3])
def test_convolutions_with_groups_and_a_linear_layer_count_as_by_hand(batch):
    model = nnx.eval_shape(Network)
    graphdef, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((batch, 9, 11, 3), np.float32)
    count = count_macs(lambda state, x: nnx.merge(graphdef, state)(x), state, images)
    assert count == batch * BY_HAND


def test_a_batch_of_matrix_products_counts_every_one():
    x, y = jnp.ones((5, 2, 3)), jnp.ones((5, 3, 7))
    assert count_macs(jnp.matmul, x, y) == 5 * 2 * 3 * 7


def test_a_scan_counts_as_often_as_it_goes_round():
    def function(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, length=6)[0]

    assert count_macs(function, jnp.ones((4, 4))) == 6 * 4**3


def test_what_is_hidden_in_custom_derivatives_counts():
    function = jax.custom_jvp(lambda x: x @ x)
    function.defjvp(lambda primals, tangents: (function(*primals), tangents[0]))
    assert count_macs(function, jnp.ones((4, 4))) == 4**3


def test_a_loop_of_unknown_length_is_refused():
    def function(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="in a while depend on the data"):
        count_macs(function, jnp.ones((4, 4)))


def test_the_table_knows_the_published_size_of_resnet8x4():
    row = describe("resnet8x4", 32, rounds=0)
    assert row.parameters == 1_233_540
    stem, first, *_ = row.stages
    assert (stem, first) == ((32, 32, 32), (32, 32, 64))
    # Stem; two convolutions and a skip in each stage, at 32, 16 and 8; classifier.
    expected = 32**2 * 27 * 32
    for side, before, after in ((32, 32, 64), (16, 64, 128), (8, 128, 256)):
        expected += side**2 * (9 * before * after + 9 * after * after + before * after)
    assert row.macs == expected + 256 * 100
