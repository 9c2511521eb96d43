"""Class and row numbers in any integer dtype, wherever the library takes them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkd import _checks, distillers, graphs, losses, memory
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.losses import _arguments
from jaxkd.models import ModelOutput

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# More classes, and more rows, than an int8 or uint8 can count. Labels below 128 fit
# into every dtype; classes 261, 356 and 300 have the same last 8 bits.
CLASSES, ROWS = 400, 400
LABELS = np.array([5, 100, 44])
DTYPES = ["int8", "uint8", "uint16", "uint32", "int64"]
KEY = jax.random.key(0)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


LOGITS = [drawn(3, CLASSES, seed=seed) for seed in (0, 1)]
OUTPUTS = [ModelOutput(jnp.asarray(x), jnp.asarray(x[:, :4])) for x in LOGITS]
BANK = memory.Bank(*(jnp.asarray(drawn(ROWS, 4, seed=seed)) for seed in (0, 1)))
ROWS_OF_BANK = drawn(3, 4), drawn(3, 4, seed=1)
NEIGHBORS = np.array([[0, 2], [1, 0], [2, 1]])
ALL_LABELS = np.arange(ROWS) % 100


def bare(function):
    """The function without the checks of its annotations, as users call it."""
    return inspect.unwrap(function)


def sampled(sampler):
    def negatives(labels):
        counts = {"num_negatives": 50, "num_classes": CLASSES}
        return bare(sampler)(KEY, labels, ALL_LABELS, **counts).labels

    return negatives


def evaluated(method):
    def evaluate(labels):
        batch = distillers.Batch(jnp.zeros((3, 2, 2, 1)), labels, jnp.arange(3), KEY)
        return method().loss({}, {}, *OUTPUTS, batch)[0]

    return evaluate


LABELED = {
    "decoupled_kl": lambda y: bare(losses.decoupled_kl)(*LOGITS, y),
    "normalized_kl": lambda y: bare(losses.normalized_kl)(*LOGITS, y),
    "cross_entropy": evaluated(distillers.cross_entropy),
    "neighbor_purity": lambda y: bare(graphs.neighbor_purity)(NEIGHBORS, y),
    "all_negatives": sampled(memory.all_negatives),
    "shared_negatives": sampled(memory.shared_negatives),
    "sampled_negatives": sampled(memory.sampled_negatives),
}
NUMBERED = {
    "neighbor_purity of rows": lambda x: bare(graphs.neighbor_purity)(
        NEIGHBORS.astype(x.dtype), LABELS
    ),
    "neighbor_agreement": lambda x: bare(graphs.neighbor_agreement)(
        NEIGHBORS.astype(x.dtype), NEIGHBORS[::-1]
    ),
    "read": lambda x: bare(memory.read)(BANK, x).student,
    "update": lambda x: bare(memory.update)(BANK, x, *ROWS_OF_BANK).teacher,
    "listed_negatives": lambda x: bare(memory.listed_negatives)(LABELS, x[:, None])[3],
}
TAKES = LABELED | NUMBERED


@pytest.fixture(scope="module")
def expected():
    return {name: take(LABELS.astype(np.int32)) for name, take in TAKES.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TAKES)
def test_the_dtype_of_numbers_does_not_matter(expected, name, dtype):
    np.testing.assert_array_equal(TAKES[name](LABELS.astype(dtype)), expected[name])


@pytest.mark.usefixtures("x64")
def test_a_label_of_64_bits_beyond_the_classes_is_none_of_them():
    logits = jnp.zeros((2, CLASSES))
    is_target = _arguments.prepare_labels(np.array([2**32 + 5, 5]), logits)
    np.testing.assert_array_equal(is_target.sum(axis=-1), [0, 1])


@pytest.mark.parametrize("dtype", ["bool", "float32"])
@pytest.mark.parametrize("name", TAKES)
def test_numbers_that_are_not_integers_are_refused(name, dtype):
    with pytest.raises(
        InvalidTypeError, match=r"must be integers \((class|row) numbers\), got"
    ):
        TAKES[name](LABELS.astype(dtype))


@pytest.mark.parametrize("labels", [["5", "100"], None, [[1], [2, 3]]])
def test_what_is_no_array_of_numbers_is_refused(labels):
    with pytest.raises(InvalidTypeError, match="must be an array of class numbers"):
        _checks.as_class_numbers(labels)


@pytest.mark.parametrize(
    "labels, says",
    [
        (np.eye(CLASSES)[LABELS], r"labels.argmax\(-1\)"),
        (np.eye(CLASSES, dtype=int)[LABELS], r"labels.argmax\(-1\)"),
        (LABELS[:, None], r"labels\[..., 0\]"),
        (LABELS.astype(np.float32), r"labels.astype\(int\)"),
    ],
)
def test_other_labels_are_refused_with_the_remedy(labels, says):
    unchecked = bare(losses.decoupled_kl)
    with pytest.raises((InvalidInputError, InvalidTypeError), match=says) as error:
        unchecked(*LOGITS, labels)
    assert error.value.argument == "labels"


@pytest.mark.parametrize("labels", [[-1, 2, 3], [1, 2, CLASSES]])
@pytest.mark.parametrize("sampler", ["all", "shared", "sampled"])
def test_a_sampler_refuses_labels_that_are_no_classes(sampler, labels):
    with pytest.raises(InvalidInputError, match=r"labels must lie in \[0, 399\]"):
        TAKES[f"{sampler}_negatives"](np.array(labels))


@pytest.mark.parametrize(
    "name, rows",
    [("read", -1), ("read", ROWS), ("update", -1), ("listed_negatives", -1)],
)
def test_a_row_number_that_is_no_row_is_refused(name, rows):
    with pytest.raises(InvalidInputError, match="rows must"):
        TAKES[name](np.array([0, 1, rows]))


def test_nothing_is_stored_beyond_the_last_row():
    updated = TAKES["update"](np.array([0, 1, ROWS]))
    np.testing.assert_array_equal(updated[2:], BANK.teacher[2:])


@pytest.mark.parametrize("neighbors", [[[0, 3]] * 3, [[-1, 0]] * 3])
def test_neighbors_outside_of_the_batch_are_refused(neighbors):
    for take in (
        lambda x: graphs.propagate(drawn(3, 4), x),
        lambda x: graphs.neighbor_purity(x, LABELS),
    ):
        with pytest.raises(InvalidInputError, match=r"must lie in \[0, 2\]"):
            take(np.array(neighbors))
