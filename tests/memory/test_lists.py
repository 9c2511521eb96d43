"""Lists of negatives, which each example draws and reads by itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import distillers, memory
from jaxkd.distillers import _sampling
from jaxkd.memory import _circle, _lists, _random

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROWS, K, CLASSES = 200, 5, 6
ROW_LABELS = np.random.default_rng(0).integers(0, CLASSES, ROWS).astype(np.int32)
LABELS = np.array([0, 1, 2, 0], np.int32)
OTHER = ROW_LABELS[None, :] != LABELS[:, None]


def sampled(key, num_negatives=K, row_labels=ROW_LABELS, **options):
    return memory.sampled_negatives(
        key,
        jnp.asarray(LABELS),
        jnp.asarray(row_labels),
        num_negatives=num_negatives,
        num_classes=CLASSES,
        **options,
    )


def many_lists(draws):
    keys = jax.random.split(jax.random.key(0), draws)
    return np.asarray(jax.jit(jax.vmap(lambda key: sampled(key).lists))(keys))


@pytest.fixture
def no_circle(monkeypatch):
    """Let the circle fail, so that `vmap` does not also compute this branch."""
    monkeypatch.setattr(jax.lax, "cond", lambda yes, true, false, *x: true(*x))


def test_lists_are_drawn_only_for_many_more_rows_than_negatives():
    assert sampled(jax.random.key(0)).lists is not None
    assert sampled(jax.random.key(0), 2 * K + 1).lists is None


@pytest.mark.usefixtures("no_circle")
@pytest.mark.parametrize("draws", [None, 6], ids=["one round", "many rounds"])
def test_lists_are_k_distinct_rows_of_other_classes(monkeypatch, draws):
    if draws is not None:  # 6 · 9 // 8 draws a round
        monkeypatch.setattr(_random, "draws_for", lambda count, total: draws)
    lists = many_lists(2000)
    assert lists.shape == (2000, 4, K)
    assert np.all(np.diff(np.sort(lists)) > 0)
    assert np.all(ROW_LABELS[lists] != LABELS[:, None])


@pytest.mark.slow
@pytest.mark.usefixtures("no_circle")
@pytest.mark.parametrize("draws", [None, 6], ids=["one round", "many rounds"])
def test_lists_are_uniform_pairs_of_rows_of_other_classes(monkeypatch, draws):
    if draws is not None:
        monkeypatch.setattr(_random, "draws_for", lambda count, total: draws)
    samples = 40_000
    lists = many_lists(samples)
    for i, (a, b) in itertools.product(range(4), ((0, 1), (0, K - 1), (2, 3))):
        others = np.flatnonzero(OTHER[i])
        pairs = np.zeros((ROWS, ROWS))
        np.add.at(pairs, (lists[:, i, a], lists[:, i, b]), 1)
        pairs = pairs[np.ix_(others, others)][~np.eye(len(others), dtype=bool)]
        assert pairs.sum() == samples
        expected = samples / len(pairs)
        excess = np.sum(np.square(pairs - expected)) / expected
        # χ², of mean len(pairs) - 1 and nearly normal.
        assert abs(excess - len(pairs)) < 5 * np.sqrt(2 * len(pairs))


@pytest.mark.slow
@pytest.mark.usefixtures("no_circle")
def test_lists_of_different_examples_are_independent():
    samples = 40_000
    lists = many_lists(samples)
    for i, j in itertools.combinations(range(4), 2):
        pairs = np.zeros((ROWS, ROWS))
        np.add.at(pairs, (lists[:, i, 0], lists[:, j, K - 1]), 1)
        pairs = pairs[np.ix_(*map(np.flatnonzero, (OTHER[i], OTHER[j])))]
        expected = samples / pairs.size
        excess = np.sum(np.square(pairs - expected)) / expected
        assert abs(excess - pairs.size) < 5 * np.sqrt(2 * pairs.size)


@pytest.mark.slow
def test_lists_hold_each_row_as_often_as_windows_do(monkeypatch):
    draws = 4000
    keys = jax.random.split(jax.random.key(0), draws)

    def counts(key):
        chosen = sampled(key)
        if chosen.lists is None:
            return chosen.mask().T
        return jax.vmap(lambda rows: jnp.zeros(ROWS, bool).at[rows].set(True))(
            chosen.lists
        )

    own = np.asarray(jax.jit(jax.vmap(counts))(keys)).mean(axis=0)
    monkeypatch.setattr(_lists, "are_faster", lambda count, total: False)
    circular = np.asarray(jax.jit(jax.vmap(lambda key: counts(key)))(keys))
    probability = K * OTHER / OTHER.sum(axis=1, keepdims=True)
    spread = np.sqrt(2 * probability * (1 - probability) / draws)
    assert np.all(np.abs(own - circular.mean(axis=0)) <= 5 * spread)


def test_where_most_rows_are_of_one_class_the_lists_are_windows(monkeypatch):
    row_labels = np.zeros(ROWS, np.int32)
    row_labels[::20] = 1 + np.arange(10) % 5  # ten rows of other classes than 0
    monkeypatch.setattr(_lists, "independent", None)
    monkeypatch.setattr(jax.lax, "cond", lambda yes, true, false, *x: false(*x))
    for count in (K, 4):
        key = jax.random.key(count)
        chosen = sampled(key, count, row_labels, max_negatives=K)
        circle = _circle.draw(
            key, jnp.asarray(LABELS), jnp.asarray(row_labels), CLASSES
        )
        with monkeypatch.context() as patch:
            patch.setattr(_lists, "are_faster", lambda count, total: False)
            windows = sampled(key, count, row_labels)
        for i in range(len(LABELS)):
            own = np.asarray(chosen.rows)[np.asarray(chosen.mask()[:, i])]
            assert len(own) == count
            assert set(own) == set(np.flatnonzero(windows.mask()[:, i]))
        assert chosen.lists is not None
        np.testing.assert_array_equal(chosen.lists[:, 0], _row_at(circle))


def _row_at(circle):
    return np.argsort(circle.position)[np.asarray(circle.place(0))]


@pytest.mark.parametrize("others", [3, 99, 101])
def test_an_example_with_few_rows_of_other_classes_has_distinct_ones(others):
    row_labels = np.zeros(ROWS, np.int32)
    row_labels[:others] = 1 + np.arange(others) % 5
    chosen = sampled(jax.random.key(0), row_labels=row_labels)
    own = np.asarray(chosen.rows)[np.asarray(chosen.mask()[:, 0])]
    assert len(set(own)) == len(own) == min(others, K)
    assert np.all(row_labels[own] != 0)
    total = np.exp(chosen.log_weight) * np.asarray(chosen.mask()).sum(axis=0)
    np.testing.assert_allclose(total, K, rtol=1e-6)


def test_a_traced_number_of_negatives_uses_the_first_rows_of_the_lists():
    key = jax.random.key(0)
    drawn = jax.jit(lambda k: sampled(key, k, max_negatives=K))(3)
    every = sampled(key)
    np.testing.assert_array_equal(drawn.lists, every.lists)
    np.testing.assert_array_equal(drawn.mask().sum(axis=0), 3)
    np.testing.assert_array_equal(drawn.log_weight, 0.0)


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize(
    "contrast", [memory.negative_log_sum_exp, memory.negative_softplus_sum]
)
def test_reading_own_lists_equals_masking_all_lists(contrast, chunk_size):
    chosen = sampled(jax.random.key(0), 4, max_negatives=K)
    anchors = jax.random.normal(jax.random.key(1), (2, 4, 8))
    table = jax.random.normal(jax.random.key(2), (ROWS, 8))

    def value(anchors, negatives):
        part = contrast(
            anchors, table, negatives, temperature=0.5, chunk_size=chunk_size
        )
        return jnp.sum(part * jnp.arange(8.0).reshape(2, 4)), part

    compute = jax.jit(jax.value_and_grad(value, has_aux=True))
    own, masked = (compute(anchors, x) for x in (chosen, chosen._replace(lists=None)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), own, masked
    )


def test_distillers_draw_lists_from_large_banks():
    sampler = _sampling.choose_sampler("sampled", K)
    counts = sampler(
        jax.random.key(0),
        LABELS,
        ROW_LABELS,
        num_negatives=jnp.int32(K),
        num_classes=CLASSES,
    )
    assert counts.lists is not None
    assert distillers.holistic(negatives="sampled", num_negatives=K)
