"""Networks of other people are in inference mode when they teach or are evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx
from support import build_mlp, make_dataset

from jaxkd import distillers, interchange, models, training
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.training._step import verify_inference_mode

pytestmark = pytest.mark.usefixtures("quickly_compiled")


SHAPE = (2, 2, 1)
IMAGES = np.random.default_rng(0).random((3, *SHAPE), np.float32)
MEAN, VAR = np.float32([0.1, 0.2, 0.3, 0.4]), np.float32([1, 2, 3, 4])
EXPECTED = (IMAGES.reshape(3, 4) - MEAN) / np.sqrt(VAR + 1e-5)


class Normalized(nnx.Module):
    """A batch normalization of the pixels, in training mode as it is built."""

    def __init__(self):
        self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
        self.norm.mean[...], self.norm.var[...] = jnp.array(MEAN), jnp.array(VAR)

    def infer(self, images, inference):
        x = images.reshape(len(images), -1)
        x = self.norm(x, use_running_average=inference)
        return models.ModelOutput(x, x)


class Train(Normalized):
    def __call__(self, images, train=True):
        return self.infer(images, not train)


class Training(Normalized):
    def __call__(self, images, *, training=True):
        return self.infer(images, not training)


class IsTraining(Normalized):
    def __call__(self, images, is_training):
        return self.infer(images, not is_training)


class Deterministic(Normalized):
    def __call__(self, images, *, deterministic=False):
        return self.infer(images, deterministic)


class Inference(Normalized):
    def __call__(self, images, inference: bool | None = None):
        return self.infer(images, bool(inference))


class RunningAverage(Normalized):
    def __call__(self, images, use_running_average=False):
        return self.infer(images, use_running_average)


class ByLayers(Normalized):
    def __call__(self, images):
        return self.infer(images, None)


class ByAttribute(Normalized):
    def __init__(self):
        super().__init__()
        self.training = True

    def __call__(self, images):
        return self.infer(images, not self.training)


class InsideByAttribute(nnx.Module):
    def __init__(self):
        self.parts = nnx.List([ByAttribute()])
        self.parts[0].is_training = True

    def __call__(self, images):
        return self.parts[0](images)


SWITCHED = [
    *(Train, Training, IsTraining, Deterministic, Inference, RunningAverage),
    *(ByLayers, ByAttribute, InsideByAttribute),
]


@pytest.mark.parametrize("network", SWITCHED)
def test_a_frozen_network_uses_its_running_statistics(network):
    module = network()
    frozen = training.freeze_teacher(module)
    logits = frozen(IMAGES).logits
    np.testing.assert_allclose(logits, EXPECTED, rtol=1e-5, atol=1e-6)
    verify_inference_mode(frozen, SHAPE, np.uint8)


def test_freezing_leaves_the_network_in_its_mode():
    module = InsideByAttribute()
    training.freeze_teacher(module)
    assert module.parts[0].training
    assert not module.parts[0].norm.use_running_average


def test_a_function_with_a_flag_is_called_in_inference_mode():
    def network(images, train=True):
        x = images.reshape(len(images), -1)
        return (-x, x) if train else (x, x)

    logits = training.freeze(network)(IMAGES).logits
    np.testing.assert_array_equal(logits, IMAGES.reshape(3, 4))


class HardCoded(Normalized):
    def __call__(self, images):
        return self.infer(images, False)


class ByWord(Normalized):
    def __call__(self, images, mode="train"):
        return self.infer(images, mode != "train")


class NoState(nnx.Module):
    """A normalization by the batch that is written by hand and keeps no state."""

    def __call__(self, images):
        x = images.reshape(len(images), -1)
        x = x - x.mean(0, keepdims=True)
        return models.ModelOutput(x, x)


class OnlyEmbedding(NoState):
    def __call__(self, images):
        output = super().__call__(images)
        return output._replace(logits=jnp.zeros_like(output.logits))


class Dropping(nnx.Module):
    def __init__(self):
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, images):
        x = self.dropout(images.reshape(len(images), -1), deterministic=False)
        return models.ModelOutput(x, x)


def closed_over():
    module = HardCoded()
    return lambda images: tuple(module(images)[:2])


class LinenNorm(linen.Module):
    @linen.compact
    def __call__(self, images, train: bool = True):
        x = linen.BatchNorm(use_running_average=False)(images)
        return models.ModelOutput(x.reshape(len(x), -1), x.reshape(len(x), -1))


class LinenDropout(linen.Module):
    @linen.compact
    def __call__(self, images, train: bool = True):
        x = linen.Dropout(0.5, deterministic=False)(images.reshape(len(images), -1))
        return models.ModelOutput(x, x)


def random_linen():
    arguments = {"arguments": lambda train: {"train": train}}
    return models.LinenNetwork(LinenDropout(), {}, **arguments, rngs=nnx.Rngs(0))


def wrapped_linen():
    return models.from_linen(LinenNorm(), image_shape=SHAPE, rngs=nnx.Rngs(0))


STUCK = [
    *(HardCoded, ByWord, NoState, OnlyEmbedding, Dropping, closed_over, wrapped_linen),
    random_linen,
]


@pytest.mark.parametrize("build", STUCK)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_network_whose_answers_depend_on_the_batch_is_refused(build, dtype):
    frozen = training.freeze_teacher(build())
    with pytest.raises(InvalidInputError, match=r"is not in inference mode: .*Pass|pa"):
        verify_inference_mode(frozen, SHAPE, dtype)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_rounding_is_not_taken_for_the_batch(scale, dtype):
    weights = np.random.default_rng(1).normal(size=(4, 5))

    def network(images):
        x = images.reshape(len(images), -1).astype(dtype) * jnp.asarray(scale, dtype)
        return x @ jnp.asarray(weights, dtype) + jnp.asarray(3, dtype), x

    verify_inference_mode(training.freeze(network), SHAPE, np.float32)


def test_a_network_with_constant_outputs_is_accepted():
    def network(images):
        return jnp.ones((len(images), 3)), jnp.zeros((len(images), 2))

    verify_inference_mode(training.freeze(network), SHAPE, np.float32)


DATASET = make_dataset(rows=8, test_rows=4, size=2)


STUDENT = build_mlp(size=2)


def compile_with(build=STUDENT, **settings):
    distiller = distillers.recipe("kd") if settings else distillers.cross_entropy()
    return training.compile_program(
        build,
        DATASET,
        distiller,
        optimizer=optax.sgd(0.1),
        batch_size=4,
        **settings,
    )


def test_every_door_refuses_a_network_in_training_mode(tmp_path):
    frozen = training.freeze(HardCoded())
    with pytest.raises(InvalidInputError, match="teacher HardCoded is not in inf"):
        compile_with(teacher=frozen)
    with pytest.raises(InvalidInputError, match="student HardCoded is not in inf"):
        compile_with(lambda rngs: HardCoded())
    with pytest.raises(InvalidInputError, match="network HardCoded is not in inf"):
        training.evaluate(frozen, DATASET.test)
    with pytest.raises(InvalidInputError, match="network HardCoded is not in inf"):
        interchange.export_stablehlo(frozen, SHAPE)


class Remembering(nnx.Module):
    """A student that is in inference mode unless it is told to train."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, images, train=False):
        x = self.linear(images.reshape(len(images), -1))
        x = self.norm(x, use_running_average=not train)
        return models.ModelOutput(x, x)


def test_a_student_with_a_flag_is_trained_in_training_mode():
    program = compile_with(Remembering)
    loop, _ = training.fit(program, program.start(0), epochs=1)
    assert np.abs(program.student(loop).norm.mean[...]).min() > 0


def test_another_argument_that_a_network_needs_is_named():
    def network(images, key):
        del key
        return images, images

    with pytest.raises(InvalidInputError, match="network also requires 'key'"):
        training.freeze(network)


def test_an_argument_with_the_name_of_a_flag_and_another_meaning_is_left_alone():
    def network(images, evaluation="full"):
        x = images.reshape(len(images), -1)
        return (x, x) if evaluation == "full" else (-x, x)

    logits = training.freeze(network)(IMAGES).logits
    np.testing.assert_array_equal(logits, IMAGES.reshape(3, 4))


def test_a_network_is_not_frozen_twice():
    with pytest.raises(InvalidInputError, match="is frozen already"):
        training.freeze_teacher(training.freeze(ByLayers()))


@pytest.mark.usefixtures("unchecked")
def test_a_pytorch_module_is_referred_to_convert():
    with pytest.raises(InvalidTypeError, match=r"a PyTorch Linear.*convert"):
        training.freeze_teacher(torch.nn.Linear(2, 3))


def test_a_linen_module_without_variables_is_referred_to_from_linen():
    with pytest.raises(InvalidInputError, match=r"models\.from_linen"):
        training.freeze(LinenNorm())


def test_a_module_as_the_teacher_is_frozen_with_the_normalization_of_the_run(capsys):
    module = models.MLP(4, (3,), num_classes=4, rngs=nnx.Rngs(1))
    program = compile_with(teacher=module)
    said = capsys.readouterr().err
    assert "teacher (MLP) is frozen with the student's normalization: mean 0." in said
    expected = training.freeze_teacher(module, program.normalization)
    got = program.experiment.teacher
    for ours, theirs in zip(
        jax.tree.leaves(got.variables), jax.tree.leaves(expected.variables), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("teacher", ["runs/teacher", models.MLP, lambda images: images])
def test_what_is_no_network_is_refused_as_the_teacher(teacher):
    name = type(teacher).__name__
    with pytest.raises(
        InvalidTypeError, match=f"teacher must be a frozen.* got {name}"
    ):
        compile_with(teacher=teacher)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "build, error, says",
    [
        (
            build_mlp()(nnx.Rngs(0)),
            InvalidInputError,
            r"got a MLP that is built .*rngs",
        ),
        (LinenNorm(), InvalidInputError, "got a LinenNorm that is built"),
        ("resnet8", InvalidTypeError, "must be a function of nnx.Rngs.*got str"),
        (lambda rngs: None, InvalidTypeError, "must return a Flax NNX.*got NoneType"),
        (lambda rngs: LinenNorm(), InvalidTypeError, "wrap a Linen module with"),
    ],
)
def test_what_does_not_build_students_is_refused(build, error, says):
    with pytest.raises(error, match=says):
        compile_with(build)


def compiled_for(trials=None):
    return training.compile_program(
        STUDENT,
        DATASET,
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.1),
        batch_size=4,
        trials=trials,
    )


def assert_used_up(program, loop):
    for use in (
        lambda: training.fit(program, loop, epochs=2),
        lambda: program.evaluate(loop),
        lambda: program.student(loop),
    ):
        with pytest.raises(InvalidInputError, match=r"loop has been used up.*start"):
            use()


def test_a_state_whose_arrays_are_deleted_is_refused():
    program = compiled_for()
    loop = program.start(0)
    jax.tree.map(lambda x: x.delete(), loop)
    assert_used_up(program, loop)


@pytest.mark.slow
@pytest.mark.parametrize("trials", [None, 2])
def test_a_state_that_was_given_to_fit_is_refused(trials):
    program = compiled_for(trials)
    loop = program.start(0)
    training.fit(program, loop, epochs=1)
    assert_used_up(program, loop)
