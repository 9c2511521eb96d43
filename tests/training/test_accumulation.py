"""An optimizer that accumulates more steps than a stage has."""

import jax
import jax.numpy as jnp
import optax
import pytest
from support import build_mlp, make_dataset

from jaxkd import distillers, training
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Distiller, Pretraining
from jaxkd.training._optimizers import check_updated

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STEPS = 3


def after(optimizer, steps=STEPS):
    """The optimizer's state after some steps."""
    parameter = jnp.ones(2)
    state = optimizer.init(parameter)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            _, state = optimizer.update(parameter, state, parameter)
    return state


MAKERS = {
    "accumulated": lambda k: training.accumulated(training.published_sgd(9), k),
    "MultiSteps": lambda k: optax.MultiSteps(optax.sgd(0.1), k),
    "in a chain": lambda k: optax.chain(
        optax.clip(1.0), optax.MultiSteps(optax.sgd(0.1), k).gradient_transformation()
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_stage_without_an_update_is_an_error(make):
    with pytest.raises(InvalidInputError, match="only 3: no update was made") as error:
        check_updated(after(make(STEPS + 1)), STEPS)
    assert error.value.argument == "optimizer"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_one_update_is_enough(make):
    check_updated(after(make(STEPS)), STEPS)


def test_an_optimizer_that_does_not_accumulate_is_not_asked():
    check_updated(after(optax.adam(0.1), steps=0), 0)


def test_the_trials_of_a_run_are_looked_at_together():
    states = [after(MAKERS["accumulated"](k)) for k in (STEPS, STEPS)]
    check_updated(jax.tree.map(lambda *x: jnp.stack(x), *states), STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("late", ["training", "pretraining"])
@pytest.mark.parametrize("trials", [None, 2])
def test_training_ends_with_an_error_if_nothing_was_updated(late, trials):
    ce = distillers.cross_entropy()
    pretrained = Distiller(ce.init, ce.loss, Pretraining(1, ce.loss))
    optimizers = {True: optax.sgd(0.1), False: training.accumulated(optax.sgd(0.1), 9)}
    program = training.compile_program(
        build_mlp(),
        make_dataset(rows=40),
        pretrained,
        optimizer=optimizers[late != "training"],
        pretraining_optimizer=optimizers[late != "pretraining"],
        batch_size=20,
        trials=trials,
    )
    with pytest.raises(InvalidInputError, match="the stage has only 2: no update"):
        training.fit(program, program.start(0), epochs=1)
