"""The moving average of a student: its formula, and what it goes through with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, assert_bitwise_equal, build_mlp, make_dataset
from training_support import NormalizedMLP, killed_and_resumed, without_times

from jaxkd import distillers, models, training
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Distiller, DistillerState, Pretraining
from jaxkd.training._state import take
from jaxkd.training._step import Lesson
from jaxkd.training._step.moving_average import begin_average, with_moving_average

DECAY = 0.6  # reached after 13 steps, in the third epoch of five steps
BAD_ROW = 7
TRIALS = 2


def compile_program(
    build, distiller=None, *, ema_decay: float | None = DECAY, **settings
):
    return training.compile_program(
        build,
        make_dataset(),
        distiller or distillers.cross_entropy(),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=8,
        ema_decay=ema_decay,
        **settings,
    )


@functools.cache
def compiled_once(trials, ema_decay, fused):
    return compile_program(build_mlp(), trials=trials, ema_decay=ema_decay, fused=fused)


def small(trials=None, *, ema_decay: float | None = DECAY, fused=None):
    return compiled_once(trials, ema_decay, fused)


@functools.cache
def normalized():
    return compile_program(NormalizedMLP)


def in_two_stages():
    """A method with one epoch before training, which moves the student too."""

    def loss(params, extra, student, teacher, batch):
        return jnp.square(student.logits.sum(-1) - 1.0), extra, {}

    return Distiller(
        lambda rngs, spec: DistillerState({}, {}), loss, Pretraining(1, loss)
    )


def spoilt():
    """Cross-entropy that one image makes infinite."""
    plain = distillers.cross_entropy()

    def loss(params, extra, student, teacher, batch):
        each, extra, _ = plain.loss(params, extra, student, teacher, batch)
        spoils = jnp.any(batch.rows == BAD_ROW)
        return each + jnp.where(spoils, jnp.inf, 0.0), extra, {}

    return Distiller(plain.init, loss)


def floats(*trees):
    """The floating-point leaves, widened before anything is computed with them."""
    return [np.float64(x) for x in arrays(trees) if x.dtype.kind in "fV"]


def live(loop):
    return floats(loop.train.student, loop.train.rest)


def mean(loop):
    return floats(loop.train.average.parameters, loop.train.average.statistics)


def walk(program, loop, steps):
    """The state before each step and after the last; a step donates the one before."""
    for _ in range(steps):
        yield loop
        order = program.order(loop)
        loop, _ = program.stage(int(loop.train.step)).advance(loop, order)
    yield loop


def by_definition(recorded, decay=DECAY):
    """The formula in float64 over everything that was ever trained."""
    expected = recorded[0]
    for t, newest in enumerate(recorded[1:]):
        d = min(decay, (1 + t) / (10 + t))
        expected = [d * a + (1 - d) * b for a, b in zip(expected, newest, strict=True)]
    return expected


def assert_close(ours, theirs, rtol=1e-5, atol=1e-6):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def distance(left, right):
    return max(np.abs(a - b).max() for a, b in zip(left, right, strict=True))


def followed(decay, dtype, steps=6):
    """Parameters and their averages over steps that halve them and add one."""
    learn = lambda state, lesson: (
        state._replace(student=state.student / 2 + 1, step=state.step + 1),
        {},
    )
    step = with_moving_average(learn, decay)
    key, student = jax.random.key(0), jnp.arange(3.0, dtype=dtype)
    state = begin_average(
        training.TrainState(student, (), (), (), (), key, key, jnp.int32(0))
    )
    lesson = Lesson(*[None] * len(Lesson._fields))
    recorded, means = [floats(state.student)], []
    for _ in range(steps):
        state, _ = step(state, lesson)
        recorded.append(floats(state.student))
        means.append(state.average.parameters)
    return recorded, means


def test_it_is_the_published_formula_over_parameters_and_batch_statistics():
    recorded, means = [], []
    for loop in walk(normalized(), normalized().start(0), 18):
        recorded.append(live(loop))
        means.append(mean(loop))
    assert distance(means[0], recorded[0]) == 0
    for steps in (1, 12, 18):
        assert_close(means[steps], by_definition(recorded[: steps + 1]))
    assert distance(means[-1], recorded[-1]) > 1e-3


def test_a_decay_near_zero_leaves_the_newest_student():
    recorded, means = followed(1e-9, jnp.float32)
    assert_close(floats(means[-1]), recorded[-1], atol=1e-7)


def test_training_itself_is_the_same_bit_for_bit():
    plain = small(ema_decay=None)
    one, _ = training.fit(plain, plain.start(0), epochs=2)
    two, _ = training.fit(small(), small().start(0), epochs=2)
    assert one.train.average == ()
    two = two._replace(train=two.train._replace(average=()))
    assert_bitwise_equal(one, two)


def test_it_costs_no_trace_and_is_donated():
    plain, counts = distillers.cross_entropy(), []
    for decay in (None, DECAY):
        traces = []

        def loss(*given, traces=traces):
            traces.append(None)
            return plain.loss(*given)

        program = compile_program(
            build_mlp(), plain._replace(loss=loss), ema_decay=decay
        )
        loop, _ = training.fit(program, program.start(0), epochs=2)
        counts.append(len(traces))
    assert counts[0] == counts[1]
    program.training.advance(loop, program.order(loop))
    assert all(x.is_deleted() for x in jax.tree.leaves(loop.train.average))


@pytest.mark.slow
def test_a_mesh_of_one_device_changes_no_bit():
    axes = ("trial", "data")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), axes)
    ends = []
    for program in (
        small(TRIALS, fused=True),
        compile_program(build_mlp(), trials=TRIALS, fused=True, mesh=mesh),
    ):
        ends.append(training.fit(program, program.start(0), epochs=2)[0])
    assert_bitwise_equal(*ends)


def test_both_are_evaluated_and_each_as_the_network_that_it_is():
    program = normalized()
    loop, history = training.fit(program, program.start(0), epochs=1)
    split = make_dataset().test
    for prefix, state in (("test/", loop), ("test/ema_", training.averaged(loop))):
        network = training.freeze(program.student(state), program.normalization)
        result = training.evaluate(network, split)
        assert history[-1][f"{prefix}accuracy"] == pytest.approx(result.accuracy)
        assert history[-1][f"{prefix}loss"] == pytest.approx(result.loss, rel=1e-5)
    assert history[-1]["test/loss"] != history[-1]["test/ema_loss"]


def test_a_checkpoint_hands_on_the_average_and_says_so(tmp_path):
    program, checkpoints = normalized(), training.Checkpoints(tmp_path)
    *_, loop = walk(program, program.start(0), 3)
    checkpoints.save(3, loop, {})
    network = nnx.eval_shape(lambda: NormalizedMLP(nnx.Rngs(0)))
    assert checkpoints.restore_network(network) == {"averaged": True}
    expected = program.student(training.averaged(loop))
    assert_bitwise_equal(nnx.state(network), nnx.state(expected))
    restored, _ = checkpoints.restore(program.like(3))
    assert_bitwise_equal(restored, loop)


@pytest.mark.parametrize(
    "trials, fused",
    [
        (None, None),
        pytest.param(TRIALS, None, marks=pytest.mark.slow),
        pytest.param(TRIALS, True, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, trials, fused):
    program = small(trials, fused=fused)
    whole, history = training.fit(program, program.start(0), epochs=2)
    end, resumed = killed_and_resumed(program, tmp_path, at=6, epochs=2)
    assert_bitwise_equal(end, whole)
    assert without_times(resumed) == without_times(history)


def test_the_average_of_a_trial_is_that_of_its_run_alone(tmp_path):
    together, alone = small(TRIALS), small()
    checkpoints = training.Checkpoints(tmp_path)
    end, history = training.fit(
        together, together.start(3, 5), epochs=2, checkpoints=checkpoints
    )
    for trial in range(TRIALS):
        single, records = training.fit(alone, alone.start(3 + trial, 5), epochs=2)
        assert_bitwise_equal(take(end, trial), single)
        for name in ("test/ema_accuracy", "test/ema_loss"):
            assert history[-1]["trials"][name][trial] == records[-1][name]
        network = build_mlp()(nnx.Rngs(0))
        assert checkpoints.restore_network(network, trial=trial)["averaged"]
        expected = alone.student(training.averaged(single))
        assert_bitwise_equal(nnx.state(network), nnx.state(expected))
    left, right = (arrays(take(end, t).train.average) for t in range(TRIALS))
    assert distance(left, right) > 1e-3


def test_a_skipped_step_does_not_move_it():
    program = compile_program(build_mlp(), spoilt(), max_skipped=1)
    moved, counts, recorded = [], [], []
    for loop in walk(program, program.start(0), 5):
        if recorded:
            moved.append(distance(mean(loop), recorded[-1]) > 0)
        recorded.append(mean(loop))
        counts.append(int(loop.train.average.updates))
    assert moved.count(False) == 1
    assert counts[-1] == 4
    skipped = moved.index(False)
    assert counts[skipped] == counts[skipped + 1]


@pytest.mark.slow
def test_it_begins_with_the_training_stage(tmp_path):
    program = compile_program(build_mlp(), in_two_stages())
    loop = program.start(0)
    *_, loop = walk(program, loop, program.pretraining_steps)
    assert loop.train.average == ()
    with pytest.raises(InvalidInputError, match="end of a pretraining stage"):
        training.averaged(loop)
    begun = program.begin_training(loop)
    assert_bitwise_equal(begun.train.average.parameters, loop.train.student)
    recorded = []
    for loop in walk(program, begun, 3):
        recorded.append(live(loop))
    assert_close(mean(loop), by_definition(recorded))
    whole, _ = training.fit(program, program.start(0), epochs=1)
    for at in (4, 6):  # within either stage
        end, _ = killed_and_resumed(program, tmp_path / str(at), at=at, epochs=1)
        assert_bitwise_equal(end, whole)


def of_dtype(dtype):
    """An MLP with such parameters and with dropout, whose state is keys and counts."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            settings = {"param_dtype": dtype, "rngs": rngs}
            self.hidden = nnx.Linear(64, 8, **settings)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.classifier = nnx.Linear(8, 4, **settings)

        def __call__(self, x):
            with jax.numpy_dtype_promotion("standard"):
                x = x.reshape(len(x), -1).astype(dtype)
                hidden = self.dropout(nnx.relu(self.hidden(x)))
                outputs = self.classifier(hidden), hidden
            wide = dtype if jnp.finfo(dtype).bits > 32 else jnp.float32
            return models.ModelOutput(*(x.astype(wide) for x in outputs))

    return Network


def test_bfloat16_parameters_are_averaged_in_float32():
    recorded, means = followed(0.999, jnp.bfloat16)
    assert {x.dtype for x in means} == {np.dtype("float32")}
    assert_close(floats(means[-1]), by_definition(recorded, 0.999))


@pytest.mark.slow
def test_a_network_of_bfloat16_parameters_is_handed_on_as_it_is(tmp_path):
    build = of_dtype(jnp.bfloat16)
    program = compile_program(build, ema_decay=0.999)
    recorded = []
    for loop in walk(program, program.start(0), 6):
        recorded.append(live(loop))
    parameters = arrays(loop.train.average.parameters)
    assert {x.dtype for x in parameters} == {np.dtype("float32")}
    assert_close(mean(loop), by_definition(recorded, 0.999))
    training.Checkpoints(tmp_path).save(6, loop, {})
    network = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    training.Checkpoints(tmp_path).restore_network(network)
    expected = nnx.state(program.student(training.averaged(loop)))
    assert_bitwise_equal(nnx.state(network), expected)
    restored, _ = training.Checkpoints(tmp_path).restore(program.like(6))
    assert_bitwise_equal(restored, loop)


@pytest.mark.usefixtures("x64")
def test_float64_parameters_are_averaged_in_float64():
    recorded, means = followed(0.2, jnp.float64)
    assert means[-1].dtype == jnp.float64
    expected = by_definition(recorded, 0.2)
    assert_close(floats(means[-1]), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(InvalidInputError, match="ema_decay must lie between 0 and 1"):
        small(ema_decay=decay)


def test_a_state_without_one_is_refused_by_what_asks_for_it():
    program = small(ema_decay=None)
    with pytest.raises(InvalidInputError, match="Compile its program with ema_decay"):
        training.averaged(program.start(0))
