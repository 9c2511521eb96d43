import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, build_mlp, build_resnet, make_dataset

from jaxkd import distillers, models, training
from jaxkd._errors import InvalidInputError

# Each program runs once or twice on a few numbers.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

CLASSES = 4
METHOD = distillers.weighted(simkd=(1.0, distillers.reused_classifier()))


def wide(rngs):
    return models.build(
        "resnet8", num_classes=CLASSES, image_shape=(8, 8, 1), width=8, rngs=rngs
    )


def compiled(teacher, build=None):
    return training.compile_program(
        build or build_resnet(CLASSES),
        make_dataset(classes=CLASSES),
        METHOD,
        # Weight decay moves whatever is trained.
        optimizer=optax.chain(
            optax.add_decayed_weights(5e-4), optax.sgd(0.05, momentum=0.9)
        ),
        batch_size=16,
        teacher=teacher,
    )


@pytest.fixture(scope="module")
def run():
    teacher = wide(nnx.Rngs(1))
    program = compiled(training.freeze(teacher))
    start = arrays(program.start(0).train.rest)
    loop, history = training.fit(program, program.start(0), epochs=6)
    return teacher, program, start, loop, history


def reused(seed=0):
    network = wide(nnx.Rngs(seed))
    rng = np.random.default_rng(seed)
    kernel, bias = rng.normal(size=(6, CLASSES)), rng.normal(size=CLASSES)
    kernel, bias = jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)
    return models.ReusedClassifier(network, 32, kernel, bias, rngs=nnx.Rngs(seed))


def convolve(x, kernel):
    """Cross-correlation of odd size that keeps the map's, by its definition."""
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


def test_the_last_map_is_projected_for_the_classifier():
    module = reused()
    for layer in module.projector:
        layer.norm.mean[...] += 0.1
        layer.norm.var[...] *= 1.5
    images = jnp.asarray(np.random.default_rng(2).normal(size=(3, 8, 8, 1)), "float32")
    view = training.freeze(module)
    output = jax.jit(view.apply)({**view.variables, "normalization": None}, images)
    inner = training.freeze(module.network)
    x = jax.jit(inner.apply)({**inner.variables, "normalization": None}, images)
    x = np.asarray(x.stages[-1], np.float64)
    for layer in module.projector:
        x = convolve(x, np.asarray(layer.conv.kernel[...], np.float64))
        x = (x - 0.1) / np.sqrt(1.5 + 1e-5)
        x = np.maximum(x, 0)
    np.testing.assert_allclose(output.stages[-1], x, rtol=1e-4, atol=1e-5)
    kernel, bias = np.asarray(module.kernel[...]), np.asarray(module.bias[...])
    logits = x.mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(output.logits, logits, rtol=1e-4, atol=1e-4)


def test_the_student_predicts_with_the_teachers_classifier(run):
    teacher, program, _, loop, _ = run
    student = program.student(loop)
    assert isinstance(student, models.ReusedClassifier)
    np.testing.assert_array_equal(student.kernel[...], teacher.classifier.kernel[...])
    np.testing.assert_array_equal(student.bias[...], teacher.classifier.bias[...])


def test_it_learns_the_teachers_last_map(run):
    history = run[-1]
    assert history[-1]["train/simkd"] < 0.7 * history[0]["train/simkd"]


def test_the_projector_is_trained(run):
    _, program, _, loop, _ = run
    before = program.student(program.start(0)).projector
    after = program.student(loop).projector
    for one, other in zip(before, after, strict=True):
        assert np.any(one.conv.kernel[...] != other.conv.kernel[...])


def test_the_larger_map_is_pooled_to_the_smaller():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    output = lambda size: models.ModelOutput(
        draw(2, CLASSES), draw(2, 3), (draw(2, size, size, 3),) * 2
    )
    student, teacher = output(2), output(4)
    value, _, _ = METHOD.loss({"simkd": {}}, {"simkd": {}}, student, teacher, _BATCH)
    pooled = np.asarray(teacher.stages[-1]).reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    expected = np.square(np.asarray(student.stages[-1]) - pooled).mean((1, 2, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


_ROWS = jnp.arange(2)
_BATCH = distillers.Batch(jnp.zeros((2, 8, 8, 1)), _ROWS, _ROWS, jax.random.key(0))


def test_a_teacher_whose_classifier_reads_something_else_is_refused():
    teacher = wide(nnx.Rngs(1))
    teacher.classifier = nnx.Linear(7, CLASSES, rngs=nnx.Rngs(0))
    frozen = training.freeze(wide(nnx.Rngs(1)))
    odd = frozen._replace(classifier=training.freeze(teacher).classifier)
    with pytest.raises(InvalidInputError, match="reads 7 features and the map has 32"):
        compiled(odd)


def test_a_student_without_feature_maps_is_refused():
    with pytest.raises(InvalidInputError, match="the student's output has 0 stages"):
        compiled(training.freeze(wide(nnx.Rngs(1))), build_mlp(CLASSES))


def test_two_parts_that_change_the_student_are_refused():
    part = (1.0, distillers.reused_classifier())
    with pytest.raises(InvalidInputError, match="but a and b do"):
        distillers.weighted(a=part, b=part)


class Flagged(nnx.Module):
    """A network of its user's that is told by an argument whether it is in training."""

    def __call__(self, images, train=True):
        x = images * (2.0 if train else 1.0)
        return models.ModelOutput(x[:, 0, 0], x[:, 0, 0], stages=(x, x))


def test_the_mode_reaches_the_network_inside():
    network = models.ReusedClassifier(
        Flagged(), 1, jnp.ones((2, CLASSES)), jnp.ones(CLASSES), rngs=nnx.Rngs(0)
    )
    images = jnp.ones((1, 2, 2, 1))
    assert network(images).stages[0].max() == 2
    assert training.inference_view(network)(images).stages[0].max() == 1
    assert network(images).stages[0].max() == 2
