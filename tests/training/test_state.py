"""What a REPL shows of a run's parts."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from support import build_mlp, make_dataset

from jaxkd import data, distillers, training
from jaxkd.training._state import TRIAL_AXES

LONGEST = 300  # characters: a few lines


def make_program(**settings):
    return training.compile_program(
        build_mlp(),
        make_dataset(),
        distillers.recipe("kd"),
        optimizer=optax.adam(1e-3),
        batch_size=16,
        teacher=training.freeze(build_mlp()(nnx.Rngs(7))),
        **settings,
    )


@pytest.fixture(scope="module")
def program():
    return make_program()


@pytest.fixture(scope="module")
def trials():
    return make_program(trials=3)


def test_a_state_shows_its_step(program):
    assert repr(program.start(0)) == "LoopState(step=0)"


def test_a_state_of_trials_shows_their_number(trials):
    assert repr(trials.start(0)) == "LoopState(step=0, trials=3)"


def test_a_training_state_shows_the_number_of_parameters(program):
    train = program.start(0).train
    parameters = sum(x.size for x in jax.tree.leaves(train.student))
    assert repr(train) == f"TrainState(step=0, parameters={parameters})"


def test_a_state_that_was_donated_says_so(program):
    loop = program.start(0)
    program.training.advance(loop, program.order(loop))
    assert repr(loop) == "LoopState(donated: use the state that came back)"


def test_a_state_without_arrays_has_a_repr(program):
    assert repr(program.like(0)) == "LoopState(step=int32[])"
    assert repr(TRIAL_AXES) == "LoopState(step=None)"
    shown = []
    jax.jit(lambda loop: shown.append(repr(loop)))(program.start(0))
    assert shown == ["LoopState(step=int32[])"]


def test_a_program_shows_what_it_trains_on(program, trials):
    assert repr(program) == (
        f"Program(dataset={make_dataset().name!r}, batch_size=16, steps_per_epoch=3, "
        "teacher='network')"
    )
    assert "trials=3" in repr(trials)


@pytest.mark.parametrize("method", ["kd", "hkd+kd", "ft", "sskd", "at"])
def test_a_distiller_has_a_short_repr(method):
    assert len(repr(distillers.recipe(method))) < LONGEST


def test_a_distiller_shows_the_layers_that_it_reads():
    distiller = distillers.recipe("kd")._replace(
        layers=distillers.LayerPaths(student=("hidden",))
    )
    assert "hidden" in repr(distiller)


def test_arrays_are_shown_by_dtype_and_shape(program):
    dataset = make_dataset()
    frozen = program.experiment.teacher
    images = dataset.train.images[:2]
    rows, shape = len(dataset.train.labels), dataset.image_shape
    sizes = ",".join(map(str, shape))
    assert repr(dataset.train) == (
        f"Split(images={dataset.train.images.dtype}[{rows},{sizes}], "
        f"labels=int32[{rows}])"
    )
    assert f"train={rows}, test={len(dataset.test.labels)}" in repr(dataset)
    assert repr(frozen(images)).startswith("ModelOutput(logits=float32[2,4]")
    assert len(repr(frozen)) < 60
    classifier = distillers.Classifier(np.zeros((3, 2)), np.zeros(2))
    assert repr(classifier) == "Classifier(kernel=float64[3,2], bias=float64[2])"


def test_a_spec_has_a_short_repr(program):
    module = build_mlp()(nnx.Rngs(0))
    images, labels = make_dataset().train
    images = data.normalize(images, program.normalization)
    spec = distillers.spec(module, module, images, labels)
    assert len(repr(spec)) < LONGEST
    assert f"labels=int32[{len(labels)}]" in repr(spec)
