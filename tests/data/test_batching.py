import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import data
from jaxkd._errors import InvalidInputError

SIZES = [(10, 4), (12, 4), (5, 5), (7, 1), (7, 6)]


pytestmark = pytest.mark.usefixtures("quickly_compiled")


@functools.cache
def epoch(num_rows, batch_size, key=0, number=0):
    order = data.epoch_order(jax.random.key(key), num_rows, number)
    steps = data.steps_per_epoch(num_rows, batch_size)
    return np.stack([data.batch_rows(order, step, batch_size) for step in range(steps)])


@pytest.mark.parametrize("num_rows, batch_size", SIZES)
def test_every_row_is_used_and_as_few_as_possible_are_repeated(num_rows, batch_size):
    batches = epoch(num_rows, batch_size)
    assert batches.shape == (-(-num_rows // batch_size), batch_size)
    counts = np.bincount(batches.ravel(), minlength=num_rows)
    assert len(counts) == num_rows
    assert counts.min() == 1
    assert counts.sum() - num_rows == -num_rows % batch_size


@pytest.mark.parametrize("num_rows, batch_size", SIZES)
def test_no_batch_contains_a_row_twice(num_rows, batch_size):
    for rows in epoch(num_rows, batch_size):
        assert len(set(rows.tolist())) == batch_size


def test_the_last_batch_is_filled_up_with_the_first_rows_of_its_epoch():
    batches = epoch(10, 4)
    np.testing.assert_array_equal(batches[-1, 2:], batches[0, :2])


def test_order_is_a_permutation_in_int32():
    order = data.epoch_order(jax.random.key(0), 100, 3)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(100))


def test_order_depends_on_key_and_epoch_only():
    first = epoch(100, 100)
    np.testing.assert_array_equal(first, epoch.__wrapped__(100, 100))
    assert (first != epoch(100, 100, number=1)).any()
    assert (first != epoch(100, 100, key=1)).any()


def test_works_inside_jit_with_a_traced_epoch_and_step():
    @jax.jit
    def rows(key, number, step):
        return data.batch_rows(data.epoch_order(key, 10, number), step, 4)

    np.testing.assert_array_equal(
        rows(jax.random.key(0), 5, 2), epoch(10, 4, number=5)[2]
    )


@pytest.mark.usefixtures("x64")
def test_rows_stay_int32_in_x64():
    assert epoch.__wrapped__(10, 4).dtype == np.int32


@pytest.mark.parametrize("num_rows, batch_size", [*SIZES, (3, 8)])
def test_mask_counts_each_row_exactly_once_in_order(num_rows, batch_size):
    rows, mask = data.padded_batches(num_rows, batch_size)
    assert rows.shape == mask.shape == (-(-num_rows // batch_size), batch_size)
    np.testing.assert_array_equal(rows[mask], np.arange(num_rows))
    assert (rows[~mask] == 0).all()


@pytest.mark.parametrize("function", [data.steps_per_epoch, data.padded_batches])
@pytest.mark.parametrize("num_rows, batch_size", [(0, 4), (4, 0)])
def test_numbers_must_be_positive(function, num_rows, batch_size):
    with pytest.raises(InvalidInputError, match="must be at least 1, got 0"):
        function(num_rows, batch_size)


def test_a_batch_larger_than_the_training_set_raises():
    with pytest.raises(InvalidInputError, match="batch_size must be at most 4"):
        data.steps_per_epoch(4, 5)
    with pytest.raises(InvalidInputError, match="batch_size must be at most 4"):
        data.batch_rows(jnp.arange(4), 0, 5)


def test_an_order_of_no_rows_raises():
    with pytest.raises(InvalidInputError, match="num_rows must be at least 1"):
        data.epoch_order(jax.random.key(0), 0, 0)
