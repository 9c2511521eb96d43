"""Views: further images that both networks see beside the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, assert_bitwise_equal, build_mlp, make_dataset

from jaxkd import data, distillers, training
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Distiller, DistillerState, Pretraining
from jaxkd.models import ModelOutput

pytestmark = pytest.mark.usefixtures("quickly_compiled")

ROWS = 12
DATASET = make_dataset()
NORMALIZATION = data.channel_statistics(DATASET.train.images)
EXAMPLES = training.Examples(
    jnp.asarray(DATASET.train.images[:ROWS]),
    jnp.asarray(DATASET.train.labels[:ROWS]),
    jnp.arange(ROWS),
)
OF_TEACHER = data.Normalization(np.float32([0.5]), np.float32([0.25]))


@pytest.fixture(scope="module")
def with_views(quickly_compiled):
    """One step with rotations: the states before and after it, and what was seen."""
    return stepped(recording())


@pytest.fixture(scope="module")
def without_views(quickly_compiled):
    """The same without views."""
    return stepped(recording(None))


def upside_down(images):
    return images[:, ::-1]


def recording(views=distillers.rotations):
    """Reports what it is given, in training and in its pretraining."""

    def loss(params, extra, student, teacher, batch):
        seen = {
            "student": student.logits,
            "teacher": None if teacher is None else teacher.logits,
            "images": batch.images,
            "views": batch.views,
        }
        value = params["scale"] * student.logits.sum(-1)
        if batch.views is not None:
            value = value + batch.views.student.logits.sum()
        return value, extra, seen

    return Distiller(
        lambda rngs, spec: DistillerState({"scale": jnp.ones(())}, {}),
        loss,
        Pretraining(1, loss),
        views,
    )


def stepped(distiller, *, build=build_mlp, teacher=True, **settings):
    """(state before, state after, what the step reports)."""
    student = build()(nnx.Rngs(0))
    frozen = training.freeze(build()(nnx.Rngs(1)), OF_TEACHER) if teacher else None
    optimizer = optax.sgd(0.1)
    step = training.make_train_step(
        nnx.graphdef(student),
        distiller,
        optimizer,
        teacher=frozen,
        normalization=NORMALIZATION,
        **settings,
    )
    output = nnx.eval_shape(lambda m, x: m(x), student, jnp.zeros((ROWS, 8, 8, 1)))
    spec = distillers.Spec(output, output if teacher else None, 4, DATASET.train.labels)
    state = training.init_train_state(
        student, distiller, spec, optimizer, key=jax.random.key(0)
    )
    variables = None if frozen is None else frozen.variables
    after, seen = jax.jit(step)(state, variables, EXAMPLES)
    return state, after, seen


class Normalizing(nnx.Module):
    """Batch statistics of the images themselves: the smallest network with any."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(1, momentum=0.9, rngs=rngs)

    def __call__(self, images):
        flat = self.norm(images).reshape(len(images), -1)
        return ModelOutput(flat[:, :4], flat)


def normalizing():
    return Normalizing


def applied(seed, images, normalization):
    network = build_mlp()(nnx.Rngs(seed))
    return network(data.normalize(jnp.asarray(images), normalization)).logits


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pretraining", [False, True])
def test_both_networks_see_the_batch_and_its_views(with_views, pretraining):
    _, _, seen = stepped(recording(), pretraining=True) if pretraining else with_views
    images = np.asarray(EXAMPLES.images)
    turned = np.concatenate([np.rot90(images, k, axes=(1, 2)) for k in (1, 2, 3)])
    for name, seed, normalization in (
        ("student", 0, NORMALIZATION),
        ("teacher", 1, OF_TEACHER),
    ):
        assert_close(seen[name], applied(seed, images, normalization))
        view = getattr(seen["views"], name)
        assert isinstance(view, ModelOutput)
        assert_close(view.logits, applied(seed, turned, normalization))
    np.testing.assert_array_equal(seen["images"], images)


def test_views_are_made_of_the_augmented_images():
    flipping = data.Augmentation(crop_padding=2, flip=True)
    _, _, seen = stepped(recording(), augmentation=flipping)
    images = np.asarray(seen["images"])
    assert np.any(images != np.asarray(EXAMPLES.images))
    turned = np.rot90(images, 1, axes=(1, 2))
    assert_close(seen["views"].teacher.logits[:ROWS], applied(1, turned, OF_TEACHER))


def test_the_accuracy_is_that_on_the_batch_alone(with_views):
    _, _, seen = with_views
    right = np.argmax(seen["student"], -1) == np.asarray(EXAMPLES.labels)
    np.testing.assert_allclose(seen["accuracy"], right.mean(), rtol=1e-6)
    assert seen["student"].shape == (ROWS, 4)


def test_batch_statistics_are_those_of_batch_and_views_together():
    def dark(images):
        return jnp.zeros_like(images)

    def moments(views):
        _, after, _ = stepped(recording(views), build=normalizing)
        return after.rest["norm"]["mean"].get_value()[0]

    images = data.normalize(EXAMPLES.images, NORMALIZATION)
    darkness = data.normalize(jnp.zeros_like(EXAMPLES.images), NORMALIZATION)
    both = jnp.concatenate([images, darkness])
    np.testing.assert_allclose(moments(None), 0.1 * images.mean(), atol=1e-5)
    np.testing.assert_allclose(moments(dark), 0.1 * both.mean(), atol=1e-5)


def test_the_gradient_flows_through_the_views(with_views, without_views):
    before, after, _ = with_views
    _, without, _ = without_views
    moved = zip(arrays(after.student), arrays(without.student), strict=True)
    assert any(np.any(a != b) for a, b in moved)
    assert_bitwise_equal(before.rest, after.rest)


def test_without_a_teacher_the_views_have_none():
    _, _, seen = stepped(recording(), teacher=False)
    assert seen["views"].teacher is None
    assert seen["views"].student.logits.shape == (3 * ROWS, 4)


def test_without_views_there_are_none(without_views):
    _, _, seen = without_views
    assert seen["views"] is None


def test_a_sum_passes_the_views_to_all_parts():
    plain, viewing = recording(None), recording(upside_down)
    mixed = distillers.weighted(a=(1.0, plain), b=(2.0, viewing), c=(0.0, recording()))
    assert mixed.views is upside_down
    _, _, seen = stepped(mixed)
    turned = applied(0, np.asarray(EXAMPLES.images)[:, ::-1], NORMALIZATION)
    for part in ("a", "b"):
        assert_close(seen[f"{part}/views"].student.logits, turned)
    assert distillers.weighted(a=(1.0, plain)).views is None


def test_parts_share_the_same_views_and_others_are_refused():
    same = {name: (1.0, recording()) for name in ("a", "b")}
    assert distillers.weighted(**same).views is distillers.rotations
    with pytest.raises(InvalidInputError, match="c has other views than a"):
        distillers.weighted(**same, c=(1.0, recording(upside_down)))


@pytest.mark.parametrize(
    "views",
    [
        lambda images: images[1:],
        lambda images: images[:, 1:],
        lambda images: images.astype(jnp.float32),
    ],
)
def test_views_that_do_not_fit_the_images_are_refused(views):
    with pytest.raises(InvalidInputError, match=r"distiller\.views must return"):
        stepped(recording(views))


@pytest.mark.slow
def test_self_supervision_trains_its_projections_stage_by_stage():
    objective = distillers.weighted(
        ce=(0.1, distillers.cross_entropy()),
        sskd=(1.0, distillers.self_supervised(pretraining_epochs=1)),
    )
    program = training.compile_program(
        build_mlp(),
        DATASET,
        objective,
        teacher=training.freeze(build_mlp()(nnx.Rngs(1)), OF_TEACHER),
        optimizer=optax.sgd(0.01),
        batch_size=16,
    )
    start = program.start(0)
    before = jax.tree.map(np.asarray, start.train.heads["sskd"])
    loop, history = training.fit(program, start, epochs=1)
    heads, extra = loop.train.heads["sskd"], loop.train.extra["sskd"]
    for now, then in (
        (heads["student"], before["student"]),
        (extra["teacher"], before["teacher"]),
    ):
        pairs = zip(arrays(now), arrays(then), strict=True)
        assert all(np.any(a != b) for a, b in pairs)
    assert list(heads) == ["student"]
    assert {"train/sskd/transformed", "train/sskd/similarity"} <= history[-1].keys()
