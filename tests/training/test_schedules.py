"""Schedules in training: with trials, in one dispatch, after pretraining, resumed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import assert_bitwise_equal, build_mlp, make_dataset
from training_support import NormalizedMLP, counting, killed_and_resumed, without_times

from jaxkd import data, distillers, training
from jaxkd.distillers import Distiller, DistillerState, Pretraining

STEPS_PER_EPOCH = 3  # of 40 rows, 16 in a batch
RAMP = distillers.warmup(0.5, epochs=2)


def mixture(weight=RAMP, temperature=4.0, **more):
    return distillers.weighted(
        ce=(1.0, distillers.cross_entropy()),
        kd=(weight, distillers.soft_targets(temperature=temperature)),
        **more,
    )


def compiled(objective, **settings):
    return training.compile_program(
        NormalizedMLP,
        make_dataset(),
        objective,
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=16,
        teacher=training.freeze(build_mlp()(nnx.Rngs(7))),
        **settings,
    )


def metrics_of_steps(program, steps):
    """The metrics of the first steps, one by one, and the number of steps before."""
    loop, found = program.start(0), []
    for step in range(steps):
        if step and step == program.pretraining_steps:
            loop = program.begin_training(loop)
        state, report = program.stage(step).advance(
            program.spread(loop), program.order(loop)
        )
        loop = program.gather(state)
        found.append(jax.device_get(report.metrics))
    return found


def values(found, name):
    return np.array([metrics[name] for metrics in found])


def test_every_step_has_the_weight_of_its_epoch_and_is_traced_once():
    counted, traces = counting(mixture(temperature=optax.linear_schedule(8.0, 2.0, 6)))
    program = compiled(counted)
    program.start(0)  # traces once more for the shapes of the metrics
    before = len(traces)
    found = metrics_of_steps(program, 8)
    np.testing.assert_array_equal(values(found, "weight/kd"), [0.25] * 3 + [0.5] * 5)
    expected = [8.0, 7, 6, 5, 4, 3, 2, 2]
    np.testing.assert_allclose(values(found, "kd/temperature"), expected, rtol=1e-6)
    parts = values(found, "ce") + values(found, "weight/kd") * values(found, "kd")
    np.testing.assert_allclose(values(found, "loss"), parts, rtol=1e-5)
    assert len(traces) <= before + 2  # the shapes of another start, and the step


def test_an_epoch_of_one_dispatch_has_the_metrics_of_its_single_steps():
    _, single = training.fit(program := compiled(mixture()), program.start(0), epochs=3)
    many = compiled(mixture(), steps_per_call=STEPS_PER_EPOCH)
    _, together = training.fit(many, many.start(0), epochs=3)
    for history in (single, together):
        assert [r["train/weight/kd"] for r in history] == [0.25, 0.5, 0.5]


@pytest.mark.parametrize("fused", [False, True])
def test_trials_share_the_weight(fused):
    program = compiled(mixture(), trials=2, fused=fused)
    _, history = training.fit(program, program.start(0), epochs=2)
    each = [record["trials"]["train/weight/kd"] for record in history]
    assert each == [[0.25, 0.25], [0.5, 0.5]]


@pytest.mark.parametrize("at", [2, 3])
def test_a_run_resumed_on_the_ramp_ends_with_the_same_bits(tmp_path, at):
    program = resumed_program()
    whole, history = training.fit(program, program.start(0), epochs=3)
    end, resumed = killed_and_resumed(program, tmp_path, at=at, epochs=3, every_steps=1)
    assert_bitwise_equal(end, whole)
    assert without_times(resumed) == without_times(history)


@functools.cache
def resumed_program():
    return compiled(mixture(temperature=optax.linear_schedule(8.0, 2.0, 6)))


def with_pretraining():
    """A part with a stage of two epochs before training."""

    def init(rngs, spec):
        del rngs, spec
        return DistillerState({"scale": jnp.ones(())}, {})

    def loss(params, extra, student, teacher, batch):
        del teacher
        values = params["scale"] * student.logits.mean(-1)
        steps = jnp.asarray(batch.step, values.dtype)
        return values, extra, {"step": steps, "epoch": batch.epoch}

    return Distiller(init, loss, Pretraining(2, loss))


def test_the_ramp_begins_with_training_and_not_with_pretraining():
    program = compiled(mixture(part=(1.0, with_pretraining())))
    found = metrics_of_steps(program, 11)
    first, then = found[:6], found[6:]
    assert "weight/kd" not in first[0]
    np.testing.assert_array_equal(values(then, "weight/kd"), [0.25] * 3 + [0.5] * 2)
    np.testing.assert_array_equal(values(first, "part/step"), range(6))
    np.testing.assert_array_equal(values(then, "part/step"), range(5))
    np.testing.assert_allclose(values(then, "part/epoch"), np.arange(5) / 3, rtol=1e-6)


def step_and_arguments(distiller, **settings):
    """The training step of a distiller, and what it is called with."""
    dataset = make_dataset()
    student = NormalizedMLP(nnx.Rngs(0))
    teacher = training.freeze(
        NormalizedMLP(nnx.Rngs(1)), data.channel_statistics(dataset.train.images)
    )
    examples = training.Examples(
        *map(jnp.asarray, (dataset.train.images[:12], dataset.train.labels[:12])),
        jnp.arange(12),
    )
    output = jax.eval_shape(teacher.apply, teacher.variables, examples.images)
    spec = distillers.Spec(output, output, 4, dataset.train.labels)
    optimizer = optax.sgd(0.1)
    step = training.make_train_step(
        nnx.graphdef(student), distiller, optimizer, teacher=teacher, **settings
    )
    state = training.init_train_state(
        student, distiller, spec, optimizer, key=jax.random.key(0)
    )
    return jax.jit(step), (state, teacher.variables, examples)


def test_without_a_schedule_the_program_does_not_know_of_steps_and_epochs():
    texts = []
    for settings in ({}, {"steps_per_epoch": 5}):
        step, arguments = step_and_arguments(distillers.recipe("kd"), **settings)
        texts.append(step.lower(*arguments).as_text())
    assert texts[0] == texts[1]


def test_a_ramp_needs_the_length_of_an_epoch_in_your_own_loop():
    step, arguments = step_and_arguments(distillers.recipe("dkd"))
    with pytest.raises(ValueError, match=r"pass steps_per_epoch to training\.make"):
        step.lower(*arguments)


def test_after_pretraining_a_step_of_unknown_epochs_has_no_number():
    objective = mixture(optax.constant_schedule(1.0), part=(1.0, with_pretraining()))
    step, arguments = step_and_arguments(objective)
    with pytest.raises(ValueError, match=r"batch\.step is None"):
        step.lower(*arguments)
