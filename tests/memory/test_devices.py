"""The bank over the devices of a mesh. On one device here; see test_sharding.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxkd import memory
from jaxkd.memory import _devices

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROWS, DIM, CLASSES, PER_DEVICE = 13, 3, 4, 4


def within(devices, function, *arguments):
    """Traces a function as on a mesh of so many devices, which need not be there."""
    mesh = jax.sharding.AbstractMesh((devices,), ("data",), (AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh):
        return function(*arguments)


def negatives(sampler, **settings):
    labels = np.arange(ROWS) % CLASSES
    draw = functools.partial(sampler, num_negatives=6, num_classes=CLASSES, **settings)
    return jax.jit(draw)(jax.random.key(1), labels[:5], labels)


def masks_of_all_devices(chosen, devices):
    """What each device would mask, put together by the bank's rows."""

    def one(index):
        mine, count = _devices.local_negatives(chosen, PER_DEVICE)
        mask = mine.mask() & (jnp.arange(len(mine.candidate_labels)) < count)[:, None]
        rows = jnp.arange(PER_DEVICE) if mine.rows is None else mine.rows
        return jnp.zeros((PER_DEVICE, 5), int).at[rows].add(mask.astype(int))

    index = jnp.arange(devices)
    return jax.jit(jax.vmap(one, axis_name="data"))(index).reshape(-1, 5)


@pytest.mark.parametrize(
    "sampler", [memory.sampled_negatives, memory.shared_negatives, memory.all_negatives]
)
def test_all_devices_together_have_the_negatives_of_one_device(sampler):
    chosen = negatives(sampler)
    whole = np.zeros((16, 5), int)
    rows = np.arange(ROWS) if chosen.rows is None else np.asarray(chosen.rows)
    np.add.at(whole, rows, np.asarray(chosen.mask(), int))
    np.testing.assert_array_equal(masks_of_all_devices(chosen, 4), whole)


def test_the_bank_of_a_mesh_is_that_of_one_device_padded_with_zeros():
    plain = memory.init_bank(jax.random.key(0), ROWS, DIM)
    filled = within(4, memory.init_bank, jax.random.key(0), ROWS, DIM)
    for one, other in zip(plain, filled, strict=True):
        assert other.shape == (16, DIM)
        np.testing.assert_array_equal(other[:ROWS], one)
        assert not other[ROWS:].any()


def test_a_row_beyond_the_last_is_not_written():
    bank = memory.init_bank(jax.random.key(0), ROWS, DIM)
    new = jnp.ones((1, DIM))
    after = memory.update(bank, jnp.array([ROWS]), new, new)
    np.testing.assert_array_equal(after.student, bank.student)


def test_a_bank_inside_a_shard_map_is_not_distributed_again():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    seen = []

    def count(x):
        seen.append(_devices.shards())
        return x

    spec = PartitionSpec("data")
    jax.shard_map(count, mesh=mesh, in_specs=spec, out_specs=spec)(jnp.zeros(3))
    assert seen == [1]


def test_no_mesh_is_one_device():
    assert _devices.shards() == 1
    assert within(4, _devices.shards) == 4
    assert within(4, _devices.padded, ROWS) == 16
