"""Going back with half the learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import build_mlp, make_dataset

from jaxkd import distillers, training
from jaxkd._errors import DivergenceError, InvalidInputError


def parabola():
    """The square of one weight: descent multiplies it by 1 - 2 * learning_rate."""

    def init(rngs, spec):
        return distillers.DistillerState({"weight": jnp.float32(1.0)}, {})

    def loss(params, extra, student, teacher, batch):
        nothing = 0.0 * student.logits.sum(-1)
        return jnp.square(params["weight"]) + nothing, extra, {}

    return distillers.Distiller(init, loss)


@pytest.fixture(scope="module")
def program():
    """Descent at 6, where the loss grows 121-fold a step; below 1 it converges."""
    return training.compile_program(
        build_mlp(),
        make_dataset(),
        parabola(),
        optimizer=training.backing_off(training.make_optimizer("sgd", 6.0, {})),
        batch_size=16,
    )


def run(program, folder, *, loop=None, history=(), epochs=12, **settings):
    told = []
    result = training.fit_backing_off(
        program,
        program.start(0) if loop is None else loop,
        start=lambda: program.start(0),
        checkpoints=training.Checkpoints(folder),
        history=history,
        on_back_off=told.append,
        epochs=epochs,
        evaluate_every=100,
        **settings,
    )
    return *result, told


def test_an_update_is_halved_as_often_as_the_state_says():
    optimizer = training.backing_off(optax.sgd(1.0))
    state = optimizer.init({"w": jnp.ones(2)})
    for times in range(3):
        state = state._replace(times=jnp.int32(times))
        updates, after = optimizer.update({"w": jnp.ones(2)}, state)
        np.testing.assert_array_equal(updates["w"], np.full(2, -(0.5**times)))
        assert int(after.times) == times


def test_it_halves_the_rate_until_training_converges(tmp_path, program):
    loop, history, told = run(program, tmp_path)
    assert [back_off.scale for back_off in told] == [0.5, 0.25, 0.125]
    assert int(loop.train.opt_state.times) == 3
    steps = [back_off.step for back_off in told]
    assert steps == sorted(steps)
    assert steps == [15, 18, 21]
    losses = [record["train/loss"] for record in history]
    assert losses[-1] < max(losses)
    assert [r["step"] for r in history] == [3 * (n + 1) for n in range(12)]
    scales = [record["learning_rate_scale"] for record in history]
    assert scales == sorted(scales, reverse=True)
    assert (scales[0], scales[-1]) == (1.0, 0.125)
    rates = [record["train/learning_rate"] for record in history]
    np.testing.assert_allclose(rates, 6.0 * np.array(scales), rtol=1e-6)


def test_before_the_first_checkpoint_it_goes_back_to_the_start(tmp_path):
    program = training.compile_program(
        build_mlp(),
        make_dataset(),
        parabola(),
        optimizer=training.backing_off(optax.sgd(3e19)),
        batch_size=16,
    )
    with pytest.raises(DivergenceError, match="halved 2 times already"):
        run(program, tmp_path, at_most=2)


@pytest.mark.slow
def test_a_resumed_run_knows_how_often_it_has_gone_back(tmp_path, program):
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > 30

    with pytest.raises(training.Interrupted):
        run(program, tmp_path, stop=stop)
    checkpoints = training.Checkpoints(tmp_path)
    loop, record = checkpoints.restore(program.like(checkpoints.latest()))
    times = int(loop.train.opt_state.times)
    assert times > 0
    poisoned = jax.tree.map(lambda w: w * jnp.inf, loop.train.heads)
    loop = loop._replace(train=loop.train._replace(heads=poisoned))
    with pytest.raises(DivergenceError, match=f"halved {times} times already"):
        run(program, tmp_path, loop=loop, history=record["history"], at_most=times)


def test_an_optimizer_that_cannot_is_refused(tmp_path):
    program = training.compile_program(
        build_mlp(),
        make_dataset(),
        parabola(),
        optimizer=optax.sgd(0.1),
        batch_size=16,
    )
    with pytest.raises(InvalidInputError, match="optimizer that cannot back off"):
        run(program, tmp_path)
