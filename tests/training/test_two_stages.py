"""A stage before training: what it trains, how it ends, and how it is resumed."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from support import arrays, assert_bitwise_equal, build_mlp, make_dataset
from training_support import (
    NormalizedMLP,
    changed,
    killed_and_resumed,
    without_times,
)

from jaxkd import distillers, training
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Distiller, DistillerState, Pretraining

EPOCHS = 2  # of pretraining


def probed(*, trains_student=True, epochs=EPOCHS):
    """Pretrains a probe of the embedding, then has it as a constant.

    The second parameter, ``waiting``, is reached by training alone.
    """

    def init(rngs, spec):
        width = spec.student.embedding.shape[-1]
        probe = jax.random.normal(rngs.params(), (width,))
        return DistillerState({"probe": probe, "waiting": jnp.ones(3)}, {})

    def pretrain(params, extra, student, teacher, batch):
        error = student.embedding @ params["probe"] - 1.0
        return jnp.square(error), extra, {"error": jnp.mean(error)}

    def finish(params, extra):
        return DistillerState(
            {"waiting": params["waiting"]}, {"probe": params["probe"]}
        )

    def loss(params, extra, student, teacher, batch):
        logits = student.embedding @ extra["probe"]
        return jnp.square(logits - jnp.sum(params["waiting"])), extra, {}

    stage = Pretraining(epochs, pretrain, trains_student, finish)
    return Distiller(init, loss, stage)


@functools.cache
def program(build=None, **settings):
    objective = distillers.weighted(
        ce=(1.0, distillers.cross_entropy()), probe=(0.1, probed(**settings))
    )
    decayed = optax.chain(
        optax.add_decayed_weights(1e-2), optax.sgd(0.01, momentum=0.9)
    )
    return training.compile_program(
        build or build_mlp(),
        make_dataset(),
        objective,
        optimizer=decayed,
        batch_size=16,
    )


def after_pretraining(program, seed=0):
    """The states before and after the first stage."""
    loop = program.start(seed)
    before = jax.tree.map(jnp.copy, loop)
    for _ in range(program.pretraining_steps):
        order = program.order(loop)
        loop, _ = program.stage(int(loop.train.step)).advance(loop, order)
    return before, loop


def test_what_the_first_loss_does_not_reach_is_not_even_decayed():
    before, after = after_pretraining(program())
    heads = changed(before.train.heads, after.train.heads)
    assert heads == {"probe.probe": True, "probe.waiting": False}
    student = changed(before.train.student, after.train.student)
    assert {name for name, moved in student.items() if not moved} == {
        "classifier.bias.value",
        "classifier.kernel.value",
    }


def test_a_stage_without_the_student_leaves_parameters_and_statistics():
    before, after = after_pretraining(program(NormalizedMLP, trains_student=False))
    assert_bitwise_equal(
        (before.train.student, before.train.rest),
        (after.train.student, after.train.rest),
    )
    assert changed(before.train.heads, after.train.heads)["probe.probe"]


def test_training_starts_with_what_finish_gives_and_a_new_optimizer():
    _, loop = after_pretraining(program())
    begun = program().begin_training(loop)
    assert_bitwise_equal(
        begun.train.extra["probe"]["probe"], loop.train.heads["probe"]["probe"]
    )
    assert list(begun.train.heads["probe"]) == ["waiting"]
    assert not any(x.any() for x in arrays(begun.train.opt_state))
    assert int(begun.train.step) == program().pretraining_steps


def test_epochs_of_both_stages_count_on_and_only_training_is_evaluated():
    _, history = training.fit(program(), program().start(0), epochs=2)
    assert [r["epoch"] for r in history] == [1, 2, 3, 4]
    assert [r["stage"] for r in history] == ["pretraining"] * 2 + ["training"] * 2
    assert ["test/accuracy" in r for r in history] == [False, False, True, True]
    assert ["train/probe/error" in r for r in history] == [True, True, False, False]
    assert ["train/ce" in r for r in history] == [False, False, True, True]


@pytest.mark.parametrize("interrupted_at", [2, 3, 6, 8])
def test_a_run_interrupted_in_either_stage_ends_with_the_same_bits(
    tmp_path, interrupted_at
):
    # Three steps an epoch: within the first stage, at its epochs' ends, its own end,
    # and within the second.
    whole, history = training.fit(program(), program().start(0), epochs=2)

    end, resumed = killed_and_resumed(program(), tmp_path, at=interrupted_at, epochs=2)
    assert_bitwise_equal(end, whole)
    assert without_times(resumed) == without_times(history)


def test_stages_of_different_length_are_not_mixed():
    with pytest.raises(InvalidInputError, match=r"\{'a': 1, 'b': 2\}"):
        distillers.weighted(a=(1.0, probed(epochs=1)), b=(1.0, probed(epochs=2)))


def test_a_first_step_of_a_method_without_one_is_refused():
    graphdef = nnx.graphdef(build_mlp()(nnx.Rngs(0)))
    with pytest.raises(InvalidInputError, match="distiller has no pretraining stage"):
        training.make_train_step(
            graphdef, distillers.cross_entropy(), optax.sgd(0.1), pretraining=True
        )
