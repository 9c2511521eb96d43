"""Several students side by side: what they share, and that each is a run alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, assert_bitwise_equal, build_mlp, make_dataset
from training_support import banked, holistic, killed_and_resumed, without_times

from jaxkd import data, distillers, training
from jaxkd._errors import DivergenceError, InvalidInputError
from jaxkd.distillers import Distiller, DistillerState, Pretraining
from jaxkd.training._state import take

SEED, TRIALS = 3, 2


@functools.cache
def teacher():
    return training.freeze(build_mlp()(nnx.Rngs(7)))


def compile_program(distiller, build, trials, **settings):
    return training.compile_program(
        build,
        make_dataset(),
        distiller,
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=16,  # three steps an epoch
        teacher=teacher(),
        augmentation=data.Augmentation(crop_padding=1, flip=True),
        trials=trials,
        **settings,
    )


@functools.cache
def compiled_once(trials, fused):
    return compile_program(distillers.recipe("kd"), build_mlp(), trials, fused=fused)


def small(trials=None, fused=False):
    return compiled_once(trials, fused)


def in_two_stages():
    """A method with a stage before training, and with views in both."""

    def init(rngs, spec):
        width = spec.student.embedding.shape[-1]
        return DistillerState({"probe": jax.random.normal(rngs.params(), (width,))}, {})

    def loss(params, extra, student, teacher, batch):
        turned = batch.views.student.embedding @ (params | extra)["probe"]
        target = jnp.mean(batch.views.teacher.logits, axis=-1)
        error = jnp.mean((turned - target).reshape(-1, len(batch.labels)), axis=0)
        return jnp.square(error), extra, {}

    def finish(params, extra):
        return DistillerState({}, params)

    stage = Pretraining(1, loss, finish=finish)
    return Distiller(init, loss, stage, distillers.rotations)


def assert_every_trial_is_its_run_alone(single, together):
    end, history = training.fit(together, together.start(SEED, 5), epochs=2)
    for trial in range(TRIALS):
        alone, alone_history = training.fit(
            single, single.start(SEED + trial, 5), epochs=2
        )
        assert_bitwise_equal(take(end, trial), alone)
        for record, mine in zip(alone_history, history, strict=True):
            for name, values in mine["trials"].items():
                assert values[trial] == record[name], name
    return history


@pytest.mark.parametrize(
    ("compiled", "part"),
    [(banked, "bank"), pytest.param(holistic, "hkd", marks=pytest.mark.slow)],
)
def test_every_trial_has_the_bits_of_a_run_alone(compiled, part):
    (alone, _), (together, _) = compiled(), compiled(TRIALS)
    history = assert_every_trial_is_its_run_alone(alone, together)
    last = history[-1]
    assert {f"train/{part}", "train/kd", "test/accuracy"} <= last["trials"].keys()
    for name, values in last["trials"].items():
        assert len(values) == TRIALS
        assert last[name] == pytest.approx(np.mean(values))


@pytest.mark.slow
def test_so_has_one_of_a_method_with_two_stages_and_views():
    single, together = (
        compile_program(in_two_stages(), build_mlp(), trials)
        for trials in (None, TRIALS)
    )
    history = assert_every_trial_is_its_run_alone(single, together)
    assert [r["stage"] for r in history] == ["pretraining", "training", "training"]


def test_trials_see_the_same_data_and_draw_their_own_negatives():
    start = banked(TRIALS)[0].start(SEED)
    drawn = (
        jax.random.uniform(start.train.key[0]),
        jax.random.uniform(start.train.key[1]),
    )
    assert float(drawn[0]) != float(drawn[1])
    assert start.train.data_key.shape == ()
    moved = [np.any(x[0] != x[1]) for x in arrays(start.train.student)]
    assert any(moved)


@pytest.mark.parametrize("trials", [None, TRIALS])
def test_the_data_seed_alone_decides_the_order(trials):
    program = small(trials)
    orders = [
        np.asarray(program.order(program.start(seed, data_seed)))
        for seed, data_seed in ((0, 0), (1, 0), (0, 1))
    ]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert np.any(orders[0] != orders[2])


def test_seed_and_data_seed_of_the_same_number_draw_different_things():
    train = small().start(4, 4).train
    keys = {tuple(arrays(key)[0].tolist()) for key in (train.key, train.data_key)}
    pairs = {tuple(arrays(k)[0].tolist()) for k in jax.random.split(jax.random.key(4))}
    assert len(keys) == 2
    assert not keys & pairs


def test_the_teacher_answers_once_for_all_trials():
    asked = []

    def apply(variables, images):
        jax.debug.callback(lambda: asked.append(None))
        return teacher().apply(variables, images)

    program = training.compile_program(
        build_mlp(),
        make_dataset(),
        distillers.recipe("kd"),
        optimizer=optax.sgd(0.05),
        batch_size=16,
        teacher=teacher()._replace(apply=apply),
        trials=TRIALS,
    )
    training.fit(program, program.start(0), epochs=1)
    jax.effects_barrier()
    assert len(asked) == program.steps_per_epoch


@pytest.mark.slow
def test_as_an_axis_of_one_function_they_follow_the_same_path():
    turns, axis = small(TRIALS), small(TRIALS, fused=True)
    one, history = training.fit(turns, turns.start(0), epochs=3)
    two, other = training.fit(axis, axis.start(0), epochs=3)
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(arrays(one), arrays(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(history, other, strict=True):
        assert a["trials"]["test/accuracy"] == b["trials"]["test/accuracy"]


@pytest.mark.parametrize("fused", [False, True])
def test_interrupted_trials_end_with_the_same_bits(tmp_path, fused):
    program = small(TRIALS, fused=fused)
    whole, history = training.fit(program, program.start(0), epochs=3)

    end, resumed = killed_and_resumed(program, tmp_path, at=4, epochs=3)
    assert_bitwise_equal(end, whole)
    assert without_times(resumed) == without_times(history)


def test_the_network_of_any_trial_is_loaded_from_their_checkpoint(tmp_path):
    program = small(TRIALS)
    loop = program.start(0)
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(1, loop, {"history": []})
    for trial in range(TRIALS):
        network = nnx.eval_shape(lambda: build_mlp()(nnx.Rngs(0)))
        assert checkpoints.restore_network(network, trial=trial) == {"history": []}
        assert_bitwise_equal(
            nnx.state(network), nnx.state(program.student(loop, trial))
        )
    with pytest.raises(InvalidInputError, match="has no trial 2: its run has 2"):
        checkpoints.restore_network(network, trial=2)


def test_the_trial_that_diverges_is_named():
    def failing_at(value):
        def loss(params, extra, student, teacher, batch):
            own = jnp.where(extra == value, jnp.inf, 1.0)
            return own + 0 * student.logits.sum(-1), extra, {"drawn": extra}

        return Distiller(init, loss)

    def init(rngs, spec):
        return DistillerState({}, jax.random.uniform(rngs.params()))

    drawn = compile_program(failing_at(2.0), build_mlp(), 3).start(0).train.extra
    program = compile_program(failing_at(float(drawn[1])), build_mlp(), 3)
    message = rf"step 0 in trial 1 .*loss inf.* drawn {drawn[1]:.4g}"
    with pytest.raises(DivergenceError, match=message):
        training.fit(program, program.start(0), epochs=1)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"trials": 0}, "trials must be at least 1"),
        ({"steps_per_call": 0}, "steps_per_call must be at least 1"),
        ({"steps_per_call": 2, "fused": False}, "steps_per_call must be 1"),
    ],
)
def test_refuses_settings_out_of_range(settings, says):
    with pytest.raises(InvalidInputError, match=says):
        compile_program(
            distillers.recipe("kd"), build_mlp(), **{"trials": None, **settings}
        )
