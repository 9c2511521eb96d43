"""The compiled step alone, for loops of your own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import assert_bitwise_equal, build_mlp, build_resnet, make_dataset

from jaxkd import distillers, losses, models, training

pytestmark = pytest.mark.usefixtures("quickly_compiled")

HKD = {"hkd": {"dim": 4, "num_negatives": 5, "neighbors": 2}}


@pytest.fixture(scope="module")
def split():
    return make_dataset().train


def batches(split, size=8):
    for i in range(0, len(split.labels), size):
        rows = jnp.arange(i, i + size)
        yield split.images[i : i + size], split.labels[i : i + size], rows


def test_a_loop_of_ones_own_takes_the_steps_of_the_library(split):
    student, teacher = build_resnet()(nnx.Rngs(0)), build_resnet()(nnx.Rngs(1))
    distiller, optimizer = distillers.recipe("hkd+kd", settings=HKD), optax.adam(0.01)
    step = training.make_step(student, teacher, distiller, optimizer)
    state = step.init(split.images[:8], split.labels, seed=3)

    frozen = training.freeze_teacher(teacher)
    reference = jax.jit(
        training.make_train_step(
            nnx.graphdef(student), distiller, optimizer, teacher=frozen
        )
    )
    spec = distillers.spec(student, frozen, split.images[:8], split.labels)
    other = training.init_train_state(
        student, distiller, spec, optimizer, key=jax.random.key(3)
    )
    for batch in batches(split):
        state, metrics = step(state, batch)
        examples = training.Examples(*batch)
        other, expected = reference(other, frozen.variables, examples)
    assert_bitwise_equal(state, other)
    assert_bitwise_equal(metrics, expected)


def test_the_given_student_is_not_changed_and_the_trained_one_is_returned(split):
    student, teacher = build_resnet()(nnx.Rngs(0)), build_resnet()(nnx.Rngs(1))
    before = jax.tree.map(jnp.copy, nnx.state(student))
    step = training.make_step(student, teacher, distillers.recipe("kd"), optax.sgd(0.1))
    state = step.init(split.images[:8], split.labels)
    for images, labels, _ in batches(split):
        state, _ = step(state, (images, labels))
    assert_bitwise_equal(before, nnx.state(student))
    trained = step.student(state)
    assert not np.array_equal(
        trained.classifier.kernel[...], student.classifier.kernel[...]
    )


class Plain(nnx.Module):
    """Returns logits alone."""

    def __init__(self, width, rngs):
        self.body = nnx.List(
            [nnx.Linear(64, width, rngs=rngs), nnx.Linear(width, width, rngs=rngs)]
        )
        self.head = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, images):
        x = images.reshape(len(images), -1)
        for layer in self.body:
            x = nnx.relu(layer(x))
        return self.head(x)


LAYERS = distillers.Layers(student_embedding="body.-1", teacher_embedding="body.-1")


@pytest.mark.parametrize(
    "distiller",
    [
        distillers.recipe("kd"),
        distillers.at_layers({("body.*", "body.*"): losses.hint}, project="linear"),
        distillers.recipe("hkd+kd", settings=HKD, layers=LAYERS),
    ],
    ids=["kd", "layers", "hkd"],
)
def test_networks_that_return_logits_alone_learn(split, distiller):
    student, teacher = Plain(8, nnx.Rngs(0)), Plain(16, nnx.Rngs(1))
    step = training.make_step(student, teacher, distiller, optax.adam(0.01))
    state = step.init(split.images[:8], split.labels)
    losses = []
    for _ in range(6):
        for batch in batches(split):
            state, metrics = step(state, batch)
            losses.append(metrics["loss"])
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_a_program_trains_networks_that_return_logits_alone(split):
    dataset = make_dataset()
    program = training.compile_program(
        lambda rngs: Plain(8, rngs),
        dataset,
        distillers.weighted(
            ce=(1.0, distillers.cross_entropy()),
            hint=(
                1.0,
                distillers.at_layers(
                    {("body.0", "body.1"): losses.hint}, project="linear"
                ),
            ),
        ),
        optimizer=optax.adam(0.03),
        batch_size=8,
        teacher=Plain(16, nnx.Rngs(1)),
        trials=2,
    )
    _, history = training.fit(program, program.start(0), epochs=10)
    assert history[-1]["test/accuracy"] > 0.9


def test_a_folded_teacher_returns_the_layers_of_the_given_network(split):
    network = build_resnet()(nnx.Rngs(0))
    stored = split.images[:4]
    images = jnp.asarray(stored / np.float32(255))
    network(4 * images + 1)  # moves the statistics that are folded
    table = models.layers(network, images.shape)
    path = next(layer.path for layer in table if layer.kind == "Conv")
    frozen = training.freeze_teacher(network).with_layers([path])
    expected = models.output_of(training.inference_view(network), images, [path])
    np.testing.assert_allclose(
        frozen(stored).layers[path][0], expected.layers[path][0], rtol=1e-4, atol=1e-5
    )


def test_a_step_without_the_layers_says_how_to_record_them(split):
    network = build_mlp()(nnx.Rngs(0))
    distiller = distillers.at_layers({("layers.0", "layers.0"): losses.hint})
    spec = distillers.spec(network, network, split.images[:4], split.labels)
    with pytest.raises(ValueError, match=r"no layer 'layers\.0' \(it has none\)"):
        distiller.init(nnx.Rngs(0), spec)


def test_a_linen_student_is_refused_with_the_remedy(unchecked):
    from flax import linen

    with pytest.raises(TypeError, match=r"models\.from_linen"):
        training.make_step(
            linen.Dense(4), None, distillers.cross_entropy(), optax.sgd(0.1)
        )


@pytest.mark.parametrize(
    "change, error, says",
    [
        ({"labels": np.array([0, 4])}, ValueError, "below 4, got 0 to 4"),
        ({"labels": np.array([-1, 0])}, ValueError, "below 4, got -1 to 0"),
        ({"labels": np.array([0])}, ValueError, "2 images and 1 labels"),
        ({"batch": {"images": 0}}, TypeError, "a tuple .images, labels. .* and dict"),
        ({"state": None}, TypeError, "takes the state of step.init .* got NoneType"),
    ],
)
def test_batches_that_cannot_be_right_are_refused(
    split, unchecked, change, error, says
):
    network = build_mlp()(nnx.Rngs(0))
    step = training.make_step(network, None, distillers.cross_entropy(), optax.sgd(0.1))
    state = step.init(split.images[:2], split.labels)
    batch = split.images[:2], change.get("labels", split.labels[:2])
    with pytest.raises(error, match=says):
        step(change.get("state", state), change.get("batch", batch))


def test_an_optimizer_of_flax_is_refused_with_one_of_optax(unchecked):
    network = build_mlp()(nnx.Rngs(0))
    optimizer = nnx.Optimizer(network, optax.sgd(0.1), wrt=nnx.Param)
    with pytest.raises(TypeError, match=r"optimizer must be of class Gradient.*optax"):
        training.make_step(network, None, distillers.cross_entropy(), optimizer)
