import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx
from support import build_mlp, make_dataset

from jaxkd import data, training
from jaxkd.training._evaluate import is_among_largest


@pytest.fixture(scope="module")
def network():
    statistics = data.channel_statistics(make_dataset().train.images)
    return training.freeze(build_mlp()(nnx.Rngs(0)), statistics)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_counts_every_example_once_whatever_the_batch(network, batch_size):
    split = make_dataset(test_rows=23).test
    result = training.evaluate(network, split, batch_size=batch_size)
    logits = np.asarray(network.apply(network.variables, split.images).logits)
    log_q = scipy.special.log_softmax(np.float64(logits), axis=-1)
    assert result.num_examples == 23
    assert result.accuracy == pytest.approx(np.mean(logits.argmax(-1) == split.labels))
    expected = -log_q[np.arange(23), split.labels].mean()
    assert result.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [5, 16])
def test_what_fills_the_last_batch_up_is_not_counted(batch_size):
    def always_class_0(images):  # right about row 0, which fills the batches up
        logits = jnp.tile(jnp.array([[9.0, 0.0, 0.0, 0.0]]), (len(images), 1))
        return logits, logits

    split = make_dataset(test_rows=23).test
    result = training.evaluate(
        training.freeze(always_class_0), split, batch_size=batch_size
    )
    assert split.labels[0] == 0
    assert result.accuracy == pytest.approx(np.mean(split.labels == 0))


def test_one_evaluator_serves_other_variables_of_the_architecture(network):
    split = make_dataset().test
    run = training.make_evaluator(network.apply, split)
    other = jax.tree.map(lambda x: x * 0, network.variables["state"])
    constant = run({**network.variables, "state": other})
    assert constant.loss == pytest.approx(np.log(4), rel=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_a_prediction_beyond_the_dtype_of_the_labels_is_wrong(dtype):
    def always_class_261(images):  # 5, in 8 bits
        logits = jnp.zeros((len(images), 300)).at[:, 261].set(9.0)
        return logits, logits

    split = data.Split(make_dataset().test.images[:4], np.array([5, 5, 1, 0], dtype))
    result = training.evaluate(training.freeze(always_class_261), split)
    assert result.accuracy == 0.0


def among_largest(logits, labels, k):
    """A stable sort in NumPy, in which NaN is largest, as for argmax."""
    keys = np.where(np.isnan(logits), -np.inf, -np.float64(logits))
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    return (order == labels[:, None]).any(1)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("kind", ["distinct", "ties", "equal", "infinite", "nan"])
def test_the_largest_logits_are_those_of_a_stable_sort(k, kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 9)).astype(np.float32)
    if kind == "ties":
        logits = rng.integers(0, 3, (200, 9)).astype(np.float32)
    elif kind == "equal":
        logits[:] = 1.5
    elif kind == "infinite":
        logits[:, ::2] = rng.choice([-np.inf, np.inf], (200, 5))
    elif kind == "nan":
        logits[rng.random((200, 9)) < 0.4] = np.nan
    labels = (np.arange(200) % 9).astype(np.int32)
    found = is_among_largest(jnp.asarray(logits), jnp.asarray(labels), k)
    np.testing.assert_array_equal(found, among_largest(logits, labels, k))
    if k == 1:
        np.testing.assert_array_equal(found, jnp.argmax(logits, -1) == labels)


def ranking(logits):
    """A network that answers every image with the same logits."""

    def always(images):
        rows = jnp.tile(jnp.asarray(logits, jnp.float32)[None], (len(images), 1))
        return rows, rows

    return training.freeze(always)


@pytest.mark.parametrize("batch_size", [5, 16])
def test_top_5_counts_every_example_once(batch_size):
    labels = np.arange(23, dtype=np.int32) % 7
    split = data.Split(np.zeros((23, 8, 8, 1), np.uint8), labels)
    result = training.evaluate(
        ranking([0.0, 3.0, 2.0, 1.0, 1.0, 0.0, 5.0]), split, batch_size=batch_size
    )
    # Classes 6, 1, 2, 3, 4 come first; 0 and 5 follow.
    expected = np.mean(~np.isin(labels, [0, 5]))
    assert result.top5_accuracy == pytest.approx(expected)
    assert result.accuracy == pytest.approx(np.mean(labels == 6))


@pytest.mark.parametrize("classes, found", [(5, False), (6, True)])
def test_five_classes_have_no_top_5(classes, found):
    split = data.Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4))
    result = training.evaluate(ranking(np.zeros(classes)), split)
    assert (result.top5_accuracy is not None) == found
