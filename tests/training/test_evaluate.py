import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx
from support import build_mlp, make_dataset

from jaxkd import data, training


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
