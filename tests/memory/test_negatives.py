import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import memory
from jaxkd._errors import InvalidInputError
from jaxkd.memory import _circle, _random

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# Four classes of 5, 3, 1 and 3 rows; one example of each and a second of the first.
ROW_LABELS = np.array([0, 1, 0, 2, 3, 0, 1, 3, 0, 3, 1, 0], np.int32)
LABELS = np.array([0, 1, 2, 3, 0], np.int32)
OTHER = ROW_LABELS[:, None] != LABELS[None, :]


def draw(
    sampler, key, num_negatives, labels=LABELS, row_labels=ROW_LABELS, num_classes=4
):
    return sampler(
        key,
        jnp.asarray(labels),
        jnp.asarray(row_labels),
        num_negatives=num_negatives,
        num_classes=num_classes,
    )


# Compiled once for the tests that do not replace the order of the rows.
draw_compiled = jax.jit(draw, static_argnums=(0, 2, 5))


def weights(negatives, rows=12):
    """[rows, batch]: the weight of each row of the bank."""
    weight = jnp.where(negatives.mask(), jnp.exp(negatives.log_weight)[None, :], 0)
    if negatives.rows is None:
        return weight
    return jnp.zeros((rows, weight.shape[1])).at[negatives.rows].add(weight)


@functools.partial(jax.jit, static_argnames="num_classes")
def draw_masks(keys, num_negatives, labels, row_labels, num_classes):
    def one(key):
        return memory.sampled_negatives(
            key,
            labels,
            row_labels,
            num_negatives=num_negatives,
            num_classes=num_classes,
        ).mask()

    return jax.vmap(one)(keys)


def masks(num_negatives, draws=300, seed=0, labels=LABELS, row_labels=ROW_LABELS):
    """[draws, rows, batch]: many draws of `sampled_negatives`."""
    keys = jax.random.split(jax.random.key(seed), draws)
    return np.asarray(draw_masks(keys, num_negatives, labels, row_labels, 4))


def test_all_negatives_are_the_rows_of_other_classes_with_weight_k_over_their_number():
    negatives = draw_compiled(memory.all_negatives, jax.random.key(0), 4)
    np.testing.assert_allclose(
        weights(negatives), 4 * OTHER / OTHER.sum(axis=0), rtol=1e-6
    )


@pytest.mark.parametrize("num_negatives", [1, 3, 6, 7])
def test_sampled_negatives_are_exactly_k_distinct_rows_of_other_classes(num_negatives):
    drawn = masks(num_negatives)
    assert not np.any(drawn & ~OTHER)
    np.testing.assert_array_equal(drawn.sum(axis=1), num_negatives)


def test_sampled_negatives_have_equal_weights():
    negatives = draw_compiled(memory.sampled_negatives, jax.random.key(0), 5)
    np.testing.assert_array_equal(negatives.log_weight, 0.0)


def test_sampling_all_rows_of_other_classes_equals_all():
    # Classes of one size, so that K = N₋ for every example.
    row_labels = np.tile(np.arange(4, dtype=np.int32), 3)
    drawn = masks(9, row_labels=row_labels)
    every = draw_compiled(
        memory.all_negatives, jax.random.key(0), 9, LABELS, row_labels
    )
    assert np.all(drawn == np.asarray(every.mask()))
    np.testing.assert_array_equal(every.log_weight, 0.0)


def test_an_example_with_too_few_negatives_takes_all_with_a_larger_weight():
    # Seven rows of classes other than 0, nine of classes other than 1.
    negatives = draw_compiled(memory.sampled_negatives, jax.random.key(0), 9)
    np.testing.assert_array_equal(negatives.mask()[:, 0], OTHER[:, 0])
    np.testing.assert_allclose(weights(negatives).sum(axis=0), 9.0, rtol=1e-6)


def test_sampled_subsets_are_uniform_over_all_orders(monkeypatch):
    # Whatever the start: over all orders of the rows, every subset comes equally often.
    row_labels, labels = np.array([0, 1, 0, 2, 1], np.int32), np.array([0, 1, 2])
    orders = jnp.array(list(itertools.permutations(range(5))), jnp.int32)
    other = row_labels[:, None] != labels[None, :]
    monkeypatch.setattr(_random, "random_order", lambda key, size: given[0])
    given = []

    def one(order, seed, num_negatives):
        given[:] = [order]
        key, own = jax.random.key(seed), labels.astype(np.int32)
        return draw(
            memory.sampled_negatives, key, num_negatives, own, row_labels, 3
        ).mask()

    draw_all = jax.jit(jax.vmap(one, in_axes=(0, None, None)))
    for seed, num_negatives in itertools.product(range(2), (1, 2)):
        drawn = np.asarray(draw_all(orders, seed, num_negatives))
        for i in range(3):
            subsets, counts = np.unique(drawn[:, :, i], axis=0, return_counts=True)
            expected = len(
                list(itertools.combinations(range(other[:, i].sum()), num_negatives))
            )
            assert len(subsets) == expected
            np.testing.assert_array_equal(counts, len(orders) / expected)


def test_for_a_given_order_every_row_is_drawn_equally_often(monkeypatch):
    order = jnp.asarray(np.random.default_rng(0).permutation(12), jnp.int32)
    monkeypatch.setattr(_random, "random_order", lambda key, size: order)
    draws = 20_000
    keys = jax.random.split(jax.random.key(0), draws)
    # A function of its own, lest the order be compiled into the other tests'.
    compiled = jax.jit(lambda k: draw_masks.__wrapped__(k, 3, LABELS, ROW_LABELS, 4))
    frequency = np.asarray(compiled(keys)).mean(axis=0)
    probability = 3 * OTHER / OTHER.sum(axis=0)
    deviation = np.sqrt(probability * (1 - probability) / draws)
    assert np.all(np.abs(frequency - probability) <= 5 * deviation)


def test_draws_of_different_examples_are_uncorrelated():
    draws = 20_000
    centered = masks(3, draws, seed=1) - 3 * OTHER / OTHER.sum(axis=0)
    # Examples 0 and 4 share their class, so a common draw would correlate fully.
    for i, j in itertools.combinations(range(5), 2):
        covariance = (
            np.einsum("dr,ds->rs", centered[:, :, i], centered[:, :, j]) / draws
        )
        spread = np.outer(centered[:, :, i].std(axis=0), centered[:, :, j].std(axis=0))
        assert np.all(np.abs(covariance) <= 5 * spread / np.sqrt(draws) + 1e-12)


def test_shared_is_unbiased_over_all_orders(monkeypatch):
    orders = jnp.array(list(itertools.permutations(range(5))), jnp.int32)
    row_labels = np.array([0, 1, 0, 2, 1], np.int32)
    labels = np.array([0, 1, 2], np.int32)
    other = row_labels[:, None] != labels[None, :]
    for num_negatives, num_rows in ((2, None), (3, 2), (2, 4)):
        sampler = functools.partial(memory.shared_negatives, num_rows=num_rows)

        def one(order, sampler=sampler, num_negatives=num_negatives):
            monkeypatch.setattr(_random, "random_order", lambda key, size: order)
            key = jax.random.key(0)
            return weights(draw(sampler, key, num_negatives, labels, row_labels, 3), 5)

        mean = np.float64(jax.jit(jax.vmap(one))(orders)).mean(axis=0)
        expected = num_negatives * other / other.sum(axis=0)
        np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_shared_negatives_use_the_same_rows_for_all_examples():
    negatives = draw_compiled(memory.shared_negatives, jax.random.key(0), 6)
    assert len(set(negatives.rows.tolist())) == 6
    np.testing.assert_array_equal(
        negatives.mask(),
        ROW_LABELS[np.asarray(negatives.rows)][:, None] != LABELS[None, :],
    )


def test_shared_negatives_are_at_most_all_rows():
    sampler = functools.partial(memory.shared_negatives, num_rows=1000)
    drawn, every = (
        weights(draw_compiled(s, jax.random.key(0), 4))
        for s in (sampler, memory.all_negatives)
    )
    np.testing.assert_allclose(drawn, every, rtol=1e-6)


@pytest.mark.parametrize("draws", [None, 4], ids=["enough draws", "repeated draws"])
def test_distinct_rows_are_uniform_pairs(monkeypatch, draws):
    total, count, samples = 50, 4, 60_000
    if draws is not None:  # as many as rows, which are often not distinct
        monkeypatch.setattr(_random, "draws_for", lambda count, total: draws)
    monkeypatch.setattr(_random, "random_order", None)

    @jax.jit
    @jax.vmap
    def rows_of(key):
        return _random.distinct_rows(key, count, total)

    rows = np.asarray(rows_of(jax.random.split(jax.random.key(0), samples)))
    assert rows.min() == 0
    assert rows.max() == total - 1
    for i, j in itertools.combinations(range(count), 2):
        pairs = np.bincount(rows[:, i] * total + rows[:, j], minlength=total**2)
        pairs = pairs.reshape(total, total)
        assert not pairs.diagonal().any()
        expected = samples / (total * (total - 1))
        excess = np.square(pairs - expected)[~np.eye(total, dtype=bool)] / expected
        # Chi-squared with about 2,449 degrees of freedom, of standard deviation 70.
        assert abs(excess.sum() - total * (total - 1)) < 5 * 70


def test_enough_draws_for_the_rows():
    random = np.random.default_rng(0)
    for count, total in ((4, 64), (100, 1000), (16_384, 50_000), (16_384, 1_281_167)):
        draws = _random.draws_for(count, total)
        assert 2 * draws <= total
        distinct = [len(set(random.integers(0, total, draws))) for _ in range(5)]
        assert min(distinct) >= count


def test_listed_negatives_count_repetitions_and_ignore_classes():
    rows = np.array([[5, 3, 3], [0, 1, 2]], np.int32)
    negatives = memory.listed_negatives(jnp.array([0, 0]), jnp.asarray(rows))
    expected = np.zeros((12, 2))
    for i, row in enumerate(rows):
        np.add.at(expected[:, i], row, 1)
    np.testing.assert_array_equal(weights(negatives), expected)


def test_a_random_order_contains_each_number_once_and_is_uniform():
    keys = jax.random.split(jax.random.key(0), 6000)
    draw_all = jax.jit(jax.vmap(lambda key: _random.random_order(key, 3)))
    orders = np.asarray(draw_all(keys))
    np.testing.assert_array_equal(np.sort(orders), [[0, 1, 2]] * 6000)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    # χ² with five degrees of freedom exceeds 20.5 once in a thousand.
    assert np.sum((counts - 1000) ** 2 / 1000) < 20.5


@pytest.mark.parametrize(
    "sampler",
    [memory.all_negatives, memory.shared_negatives, memory.sampled_negatives],
)
def test_eager_jit_and_vmap_agree(sampler):
    keys = jax.random.split(jax.random.key(0), 3)

    def one(key):
        return weights(draw(sampler, key, 4))

    batched = jax.jit(jax.vmap(one))(keys)
    np.testing.assert_allclose(one(keys[0]), batched[0], rtol=1e-6)
    compiled = jax.jit(one)
    for key, expected in zip(keys, batched, strict=True):
        np.testing.assert_allclose(compiled(key), expected, rtol=1e-6)


def test_the_number_of_negatives_may_be_traced():
    drawn = jax.jit(lambda k: draw(memory.sampled_negatives, jax.random.key(0), k))(3)
    expected = draw(memory.sampled_negatives, jax.random.key(0), 3)
    np.testing.assert_array_equal(drawn.mask(), expected.mask())


def test_two_sort_keys_give_the_order_that_one_packed_key_gives():
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 6, 50), jnp.int32)
    position = jnp.asarray(rng.permutation(50), jnp.int32)
    packed = _circle.places_by_class(labels, position, 6)
    # Numbers that would not fit: 5 · 2²⁶ · 50 > 2³².
    apart = _circle.places_by_class(labels * 2**26, position, 6 * 2**26)
    np.testing.assert_array_equal(packed, apart)


@pytest.mark.parametrize("sizes", [(95, 4, 1), (1, 1, 98), (50, 50, 0)])
def test_imbalanced_and_missing_classes_are_sampled_exactly(sizes):
    rng = np.random.default_rng(0)
    row_labels = rng.permutation(np.repeat(np.arange(3), sizes)).astype(np.int32)
    labels = row_labels[:16]
    fewest = len(row_labels) - max(sizes)
    drawn = masks(fewest, labels=labels, row_labels=row_labels)
    assert not np.any(drawn & (row_labels[:, None] == labels[None, :]))
    np.testing.assert_array_equal(drawn.sum(axis=1), fewest)


def test_with_one_class_there_are_no_negatives():
    zeros = np.zeros(4, np.int32)
    for sampler in (memory.all_negatives, memory.sampled_negatives):
        negatives = draw_compiled(sampler, jax.random.key(0), 2, zeros, zeros, 1)
        assert not negatives.mask().any()
        assert np.isfinite(negatives.log_weight).all()


def test_the_number_of_shared_rows_must_be_a_positive_integer():
    with pytest.raises(InvalidInputError, match="num_rows must be at least 1"):
        draw(memory.shared_negatives, jax.random.key(0), 0)
    with pytest.raises(TypeError, match="num_rows must be given"):
        jax.jit(lambda k: draw(memory.shared_negatives, jax.random.key(0), k))(3)
