"""What methods do with images that have no label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_support import LABELS, batch, outputs, spec_of
from flax import nnx
from holistic_support import (
    BATCH,
    CLASSES,
    NAMES,
    ROWS,
    WIDTHS,
)

from jaxkd import data, distillers, memory
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Batch, Spec
from jaxkd.distillers._sampling import contrast_classes
from jaxkd.models import ModelOutput

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELED = np.array([True, False, True, False])
ALL = [m for m in distillers.METHODS if m.unlabeled == "all"]


def half_labeled(labeled=LABELED):
    labels = jnp.where(jnp.asarray(labeled), jnp.asarray(LABELS), -1)
    return batch()._replace(labels=labels, labeled=jnp.asarray(labeled))


def value_and_gradient(method, given, start=outputs):
    """Losses of the examples, and the gradient of their mean by the logits."""
    student, teacher = start()
    state = method.init(nnx.Rngs(0), spec_of(student, teacher))

    def mean(logits):
        output = student._replace(logits=logits)
        value, _, metrics = method.loss(
            state.params, state.extra, output, teacher, given
        )
        return jnp.mean(value), (value, metrics)

    gradient, (value, metrics) = jax.grad(mean, has_aux=True)(student.logits)
    return np.asarray(value), np.asarray(gradient), metrics


NEED_LABELS = {
    "ce": distillers.cross_entropy,
    "dkd": distillers.decoupled_kl,
    "nkd": distillers.normalized_kl,
}


@pytest.mark.parametrize("name", NEED_LABELS)
def test_loss_and_gradient_are_zero_without_a_label_and_unchanged_with_one(name):
    method = NEED_LABELS[name]()
    value, gradient, _ = value_and_gradient(method, half_labeled())
    all_values, all_gradients, _ = value_and_gradient(method, batch())
    assert (value[~LABELED] == 0).all()
    assert (gradient[~LABELED] == 0).all()
    np.testing.assert_array_equal(value[LABELED], all_values[LABELED])
    np.testing.assert_array_equal(gradient[LABELED], all_gradients[LABELED])


def test_the_gradient_of_kd_is_the_same_without_labels():
    method = distillers.soft_targets()
    for ours, all_labeled in zip(
        value_and_gradient(method, half_labeled())[:2],
        value_and_gradient(method, batch())[:2],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, all_labeled)
        assert (ours[~LABELED] != 0).any()


def test_cross_entropy_of_a_mixed_image_needs_both_labels():
    partner = jnp.array([0, 1, -1, 2])
    given = half_labeled(np.array([True, False, True, True]))
    labeled = given.labeled & (partner >= 0)
    given = given._replace(
        mixed=data.Mixed(partner, jnp.float32(0.25)), labeled=labeled
    )
    value, _, _ = value_and_gradient(distillers.cross_entropy(), given)
    np.testing.assert_array_equal(value != 0, [True, False, False, True])
    assert np.isfinite(value).all()


def test_the_metadata_say_which_methods_read_labels():
    found = {m.part: m.unlabeled for m in distillers.METHODS if m.unlabeled != "all"}
    expected = dict.fromkeys(NEED_LABELS, "zero")
    assert found == {**expected, "sskd": "part", "crd": "negatives", "hkd": "negatives"}


class _NoLabels:
    """Stands for labels; whatever reads it fails."""

    def __len__(self):
        return len(LABELS)


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.part)
def test_other_methods_read_no_labels(method):
    distiller = method.build()
    _, teacher = outputs()
    student = teacher  # Some methods need networks of one width.
    spec = spec_of(student, teacher)._replace(
        labels=np.full(len(LABELS), -1), classifier=_classifier(teacher)
    )
    given = batch()._replace(labels=_NoLabels())

    def trace(loss, state):
        evaluate = lambda p, e: loss(p, e, student, teacher, given)[0]
        value = jax.eval_shape(evaluate, *state)
        assert value.shape == (len(LABELS),)

    state = jax.eval_shape(lambda: distiller.init(nnx.Rngs(0), spec))
    if (stage := distiller.pretraining) is not None:
        trace(stage.loss, state)
        state = stage.finish(*state)
    trace(distiller.loss, state)


def _classifier(teacher):
    width, classes = teacher.embedding.shape[-1], teacher.logits.shape[-1]
    return distillers.Classifier(jnp.ones((width, classes)), jnp.zeros(classes))


# A bank of 40 rows of four classes, of which every third has no label.
KNOWN = np.arange(ROWS) % 3 != 0
BANK_LABELS = np.where(KNOWN, np.arange(ROWS) % CLASSES, -1).astype(np.int32)
IN_BATCH = np.array([0, 1, 2, 3, 6, 7], np.int32)


def bank_outputs():
    rng = np.random.default_rng(0)
    return [
        ModelOutput(
            *(
                jnp.asarray(rng.normal(size=(BATCH, n)), jnp.float32)
                for n in (CLASSES, w)
            )
        )
        for w in WIDTHS.values()
    ]


def bank_batch():
    labels = jnp.asarray(BANK_LABELS[IN_BATCH])
    return Batch(
        jnp.zeros((BATCH, 1, 1, 1)),
        labels,
        jnp.asarray(IN_BATCH),
        jax.random.key(0),
        labeled=labels >= 0,
    )


def caught(sampler, into):
    """A sampler that keeps what it returned."""

    def sample(*arguments, **settings):
        into.append((sampler(*arguments, **settings), arguments, settings))
        return into[-1][0]

    return sample


SAMPLERS = {
    "all": memory.all_negatives,
    "sampled": memory.sampled_negatives,
    "shared": lambda *a, **k: memory.shared_negatives(*a, num_rows=30, **k),
}
METHODS = {
    "hkd": distillers.holistic,
    "crd": distillers.contrastive_representation,
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", METHODS)
def test_negatives_are_never_the_example_nor_of_its_class(name, sampler):
    drawn = []
    method = METHODS[name](dim=5, negatives=caught(SAMPLERS[sampler], drawn))
    student, teacher = bank_outputs()
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, BANK_LABELS))
    value, _, _ = method.loss(state.params, state.extra, student, teacher, bank_batch())
    assert np.isfinite(np.asarray(value)).all()
    ((negatives, (_, labels, row_labels), settings),) = drawn
    assert int(labels.min()) >= 0
    assert int(row_labels.min()) >= 0
    assert settings["num_classes"] == CLASSES + ROWS
    rows = np.arange(ROWS) if negatives.rows is None else np.asarray(negatives.rows)
    for anchor, mask in zip(IN_BATCH, np.asarray(negatives.mask()).T, strict=True):
        chosen = rows[mask]
        assert len(chosen)
        assert anchor not in chosen
        if KNOWN[anchor]:
            assert (BANK_LABELS[chosen] != BANK_LABELS[anchor]).all()
        elif sampler == "all":  # all other rows, whatever their class may be
            assert set(chosen) == {*range(ROWS)} - {anchor}
        if sampler == "all" and KNOWN[anchor]:
            others = np.flatnonzero(BANK_LABELS[anchor] != BANK_LABELS)
            np.testing.assert_array_equal(np.sort(chosen), others)


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_all_negatives_count_the_rows_that_may_be_one(name):
    drawn = []
    method = METHODS[name](dim=5, negatives=caught(memory.all_negatives, drawn))
    student, teacher = bank_outputs()
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, BANK_LABELS))
    method.loss(state.params, state.extra, student, teacher, bank_batch())
    ((negatives, *_),) = drawn
    total = np.exp(np.asarray(negatives.log_weight)) * np.asarray(negatives.mask()).sum(
        0
    )
    np.testing.assert_allclose(total, int(state.extra.num_negatives), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_with_all_labels_nothing_depends_on_the_numbers_of_unlabeled_rows(name):
    method = METHODS[name](dim=5, negatives="sampled")
    labels = np.arange(ROWS, dtype=np.int32) % CLASSES
    student, teacher = bank_outputs()
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, labels))
    given = bank_batch()._replace(labels=jnp.asarray(labels[IN_BATCH]))
    run = lambda given: np.asarray(
        method.loss(state.params, state.extra, student, teacher, given)[0]
    )
    plain = run(given._replace(labeled=None))
    np.testing.assert_array_equal(
        run(given._replace(labeled=jnp.ones(BATCH, bool))), plain
    )


def test_purity_counts_examples_with_a_label():
    method = distillers.holistic(dim=5, neighbors=3, negatives="all")
    student, teacher = bank_outputs()
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, BANK_LABELS))
    _, _, metrics = method.loss(
        state.params, state.extra, student, teacher, bank_batch()
    )
    from jaxkd import graphs

    near = np.asarray(graphs.nearest_neighbors(student.logits, k=3))
    labels = BANK_LABELS[IN_BATCH]
    shares = []
    for i, row in enumerate(near):
        others = [j for j in row if j != i]
        if labels[i] >= 0:
            shares.append(np.mean([labels[j] == labels[i] for j in others]))
    assert float(metrics["student_purity"]) == pytest.approx(np.mean(shares))
    assert set(NAMES) <= metrics.keys()


def test_only_the_label_minus_one_stands_for_none():
    student = ModelOutput(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    classes = lambda *labels: contrast_classes(
        Spec(student, None, 2, np.array(labels)), "holistic"
    )
    with pytest.raises(InvalidInputError, match="labels range from -2 to 1"):
        classes(0, -2, 1)
    np.testing.assert_array_equal(classes(0, -1, 1, -1), [0, 3, 1, 5])


def test_labels_without_a_mask_are_refused_as_before():
    method = distillers.holistic(dim=5, negatives="all")
    student, teacher = bank_outputs()
    state = method.init(nnx.Rngs(0), Spec(student, teacher, CLASSES, BANK_LABELS))
    given = bank_batch()._replace(labeled=None)
    with pytest.raises(InvalidInputError):
        method.loss(state.params, state.extra, student, teacher, given)
