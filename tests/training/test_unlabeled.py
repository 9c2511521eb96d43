"""Training with images that have no label."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, build_mlp, make_dataset

from jaxkd import data, distillers, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.training._records import epoch_means

pytestmark = pytest.mark.usefixtures("quickly_compiled")

LABELED = np.arange(12) % 3 != 0
KD_ONLY = distillers.weighted(kd=(1.0, distillers.soft_targets()))
CE_ONLY = distillers.recipe("ce")


@functools.cache
def step_of(distiller, augmentation=None):
    """The state before the first step, and the compiled step."""
    dataset = make_dataset()
    statistics = data.channel_statistics(dataset.train.images)
    teacher = training.freeze_teacher(build_mlp()(nnx.Rngs(7)), statistics)
    student, optimizer = build_mlp(hidden=8)(nnx.Rngs(0)), optax.sgd(0.1)
    spec = distillers.Spec(None, None, 4, dataset.train.labels)
    state = training.init_train_state(
        student,
        distiller._replace(init=lambda rngs, spec: without_state(distiller)),
        spec,
        optimizer,
        key=jax.random.key(0),
    )
    step = training.make_train_step(
        nnx.graphdef(student),
        distiller,
        optimizer,
        teacher=teacher,
        normalization=statistics,
        augmentation=augmentation,
        has_unlabeled=True,
    )
    return state, jax.jit(lambda s, e: step(s, teacher.variables, e))


def without_state(distiller):
    """The empty state of the parts, whose networks need not be described."""
    del distiller
    names = ("kd", "ce")
    nothing = {name: {} for name in names}
    return distillers.DistillerState(nothing, dict(nothing))


def examples(seed=0):
    """A batch, in which only the pixels of unlabeled images depend on the seed."""
    images, labels = (x[:12] for x in make_dataset().train)
    noise = np.random.default_rng(seed).integers(0, 256, images.shape, np.uint8)
    images = np.where(LABELED[:, None, None, None], images, noise)
    labels = np.where(LABELED, labels, -1)
    return training.Examples(*map(jnp.asarray, (images, labels, np.arange(12))))


def moved(distiller, seed):
    state, step = step_of(distiller)
    after, metrics = step(state, examples(seed))
    return arrays(after.student), metrics


def test_pixels_of_unlabeled_images_do_not_matter_to_cross_entropy():
    (one, _), (other, _) = moved(CE_ONLY, 0), moved(CE_ONLY, 1)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_they_matter_to_softened_predictions():
    (one, _), (other, _) = moved(KD_ONLY, 0), moved(KD_ONLY, 1)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_a_step_reports_the_share_of_labels_and_counts_unlabeled_images_as_wrong():
    state, step = step_of(CE_ONLY)
    _, metrics = step(state, examples())
    assert float(metrics["labeled"]) == pytest.approx(LABELED.mean())
    network = nnx.merge(step_graph(), state.student, state.rest)
    statistics = data.channel_statistics(make_dataset().train.images)
    logits = training.freeze_teacher(network, statistics)(examples().images).logits
    right = np.asarray(logits).argmax(-1) == np.asarray(examples().labels)
    assert float(metrics["accuracy"]) == pytest.approx((right & LABELED).mean())


def step_graph():
    return nnx.graphdef(build_mlp(hidden=8)(nnx.Rngs(0)))


def test_mixed_images_have_a_label_if_both_have_one():
    state, step = step_of(CE_ONLY, data.Augmentation(mixup=1.0))
    _, metrics = step(state, examples())
    share = float(metrics["labeled"])
    assert share * 12 == pytest.approx(round(share * 12), abs=1e-4)
    assert 2 * LABELED.mean() - 1 <= share + 1e-6
    assert share <= LABELED.mean() + 1e-6


def test_an_image_that_is_mixed_with_an_unlabeled_one_is_not_counted_as_right():
    state, step = step_of(CE_ONLY, data.Augmentation(mixup=1.0))
    bias = state.student["classifier"]["bias"]
    bias.set_value(bias.get_value().at[0].set(1e6))  # Every answer is class 0.
    batch = examples()._replace(labels=jnp.where(LABELED, 0, -1))
    _, metrics = step(state, batch)
    assert float(metrics["labeled"]) < LABELED.mean()
    assert float(metrics["accuracy"]) == pytest.approx(float(metrics["labeled"]))


def test_an_epochs_accuracy_is_that_on_all_labeled_images():
    totals = {"loss": 8.0, "accuracy": 0.5, "labeled": 0.75}
    measured = epoch_means({k: jnp.float32(v) for k, v in totals.items()}, 4)
    assert measured["train/accuracy"] == [pytest.approx(0.5 / 0.75)]
    assert measured["train/labeled"] == [pytest.approx(0.75 / 4)]
    assert measured["train/loss"] == [pytest.approx(2.0)]


def test_rows_without_labels_cannot_be_evaluated():
    more = data.with_unlabeled(make_dataset(), np.zeros((3, 8, 8, 1), np.uint8))
    network = training.freeze(build_mlp()(nnx.Rngs(0)))
    with pytest.raises(InvalidInputError, match="3 of 43 images without a label"):
        training.evaluate(network, more.train)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "hkd+kd"])
def test_a_run_learns_from_digits_most_of_which_have_no_label(method):
    digits = data.load("digits")
    build = lambda width: (
        lambda rngs: models.build(
            "mlp", num_classes=10, image_shape=(8, 8, 1), width=width, rngs=rngs
        )
    )
    few = data.take_subset(digits, 60, seed=0)
    rest = digits.train.images[700:]
    teacher = trained(build(64), digits, distillers.recipe("ce"), 30)
    recipe = distillers.recipe(method)
    without, _ = result(trained(build(32), few, recipe, 30, teacher), few)
    more = data.with_unlabeled(few, rest)
    network, history = trained_with_history(build(32), more, recipe, 30, teacher)
    accuracy, _ = result(network, few)
    assert accuracy > without
    assert accuracy > 0.85
    assert 0 < history[-1]["train/accuracy"] <= 1
    assert history[-1]["train/labeled"] == pytest.approx(60 / (60 + len(rest)), rel=0.2)


def trained(build, dataset, distiller, epochs, teacher=None):
    return trained_with_history(build, dataset, distiller, epochs, teacher)[0]


def trained_with_history(build, dataset, distiller, epochs, teacher=None):
    program = training.compile_program(
        build,
        dataset,
        distiller,
        optimizer=optax.adam(3e-3),
        batch_size=60,
        teacher=teacher,
        augmentation=data.Augmentation(),
    )
    loop, history = training.fit(program, program.start(0), epochs=epochs)
    statistics = program.normalization
    return training.freeze_teacher(program.student(loop), statistics), history


def result(network, dataset):
    evaluation = training.evaluate(network, dataset.test)
    return evaluation.accuracy, evaluation.loss
