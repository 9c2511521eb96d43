import jax
import numpy as np
import pytest
from flax import nnx
from sklearn import metrics
from support import build_mlp

from jaxkd import InvalidInputError, data, training


@pytest.fixture(scope="module")
def answers():
    """Labels and predictions of six classes, of which one is never predicted."""
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 6, (2, 500))
    predicted[predicted == 4] = 0
    labels[labels == 2] = 1
    return labels, predicted


def test_the_confusion_matrix_is_scikit_learns(answers):
    found = training.class_results(*answers, 6).confusion
    expected = metrics.confusion_matrix(*answers, labels=range(6))
    np.testing.assert_array_equal(found, expected)


def test_precision_recall_and_support_are_scikit_learns(answers):
    found = training.class_results(*answers, 6)
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        *answers, labels=range(6), zero_division=np.nan
    )
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_array_equal(found.support, support)
    assert np.isnan(found.precision[4])
    assert np.isnan(found.recall[2])


@pytest.mark.parametrize("name", ["labels", "predicted"])
@pytest.mark.parametrize("value", [-1, 6])
def test_a_class_out_of_range_is_refused(answers, name, value):
    given = dict(zip(("labels", "predicted"), answers, strict=True))
    given[name] = np.append(given[name][1:], value)
    with pytest.raises(InvalidInputError, match=f"{name} must lie in 0 to 5"):
        training.class_results(given["labels"], given["predicted"], 6)


@pytest.fixture(scope="module")
def frozen():
    return training.freeze(build_mlp()(nnx.Rngs(0)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_logits_do_not_depend_on_the_batches(frozen, images, batch_size):
    expected = frozen(images).logits
    found = training.predict_logits(frozen, images, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_streamed_images_have_the_same_logits(frozen, images):
    found = training.predict_logits(frozen, data.Streamed(images), batch_size=3)
    np.testing.assert_allclose(found, frozen(images).logits, rtol=1e-5, atol=1e-6)


def test_one_program_is_compiled(frozen, images):
    traces = []

    def apply(variables, images):
        traces.append(images.shape)
        return frozen.apply(variables, images)

    training.predict_logits(frozen._replace(apply=apply), images, batch_size=3)
    assert traces == [(3, 8, 8, 1)]


def test_no_images_are_refused(frozen, images):
    with pytest.raises(InvalidInputError, match="no image to predict"):
        training.predict_logits(frozen, images[:0])


def test_logits_are_float32(frozen, images):
    half = training.freeze_teacher(build_mlp()(nnx.Rngs(0)), dtype=jax.numpy.bfloat16)
    assert training.predict_logits(half, images).dtype == np.float32
