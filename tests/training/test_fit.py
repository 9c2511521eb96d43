import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from rich.console import Console
from support import assert_bitwise_equal, build_mlp, make_dataset
from training_support import assert_close, killed_and_resumed, without_times
from training_support import banked as compile_banked
from training_support import holistic as compile_holistic

from jaxkd import distillers, training
from jaxkd._errors import DivergenceError

BATCH = 16  # 40 rows: two whole batches and a remainder of 8


def make_program(distiller=None, *, build=None, **settings):
    return training.compile_program(
        build or build_mlp(),
        make_dataset(),
        distiller or distillers.cross_entropy(),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=BATCH,
        **settings,
    )


def make_teacher():
    return training.freeze(build_mlp()(nnx.Rngs(7)))


@pytest.fixture(scope="module")
def plain():
    """A compiled program without a teacher."""
    return make_program()


@pytest.fixture(scope="module")
def double():
    """A compiled program without a teacher, two of whose steps share a call."""
    return make_program(steps_per_call=2)


@pytest.fixture(scope="module")
def failing():
    """A compiled program whose loss is infinite from step 4 on."""
    return make_program(failing_from(4))


@pytest.fixture(scope="module")
def banked():
    """A compiled program with a bank, a head, batch statistics and randomness."""
    return compile_banked()[0]


@pytest.fixture(scope="module")
def whole(banked):
    """The end of an uninterrupted run of three epochs, and its history."""
    return training.fit(banked, banked.start(0), epochs=3)


def test_learns_a_problem_that_can_be_learned(plain):
    _, history = training.fit(plain, plain.start(0), epochs=30)
    assert history[-1]["test/accuracy"] == 1.0


def test_the_step_is_traced_once_over_epochs_with_a_remainder_and_over_seeds():
    program, traces = compile_banked()
    for seed in range(2):
        training.fit(program, program.start(seed), epochs=2)
    assert program.steps_per_epoch == 3
    # Once for the shapes of its metrics, once to compile it.
    assert len(traces) == 2


def test_a_teacher_bound_to_a_device_does_not_have_the_step_compiled_twice():
    teacher = make_teacher()
    bound = jax.device_put(teacher.variables, jax.devices()[0])
    assert all(x.committed for x in jax.tree.leaves(bound))
    program = make_program(
        distillers.recipe("kd"), teacher=teacher._replace(variables=bound)
    )
    loop = program.start(0)
    loop, _ = program.training.advance(loop, program.order(loop))
    assert not any(x.committed for x in jax.tree.leaves(loop))


def test_the_loop_makes_no_implicit_transfer(banked):
    loop = banked.start(0)
    with jax.transfer_guard("disallow"):
        _, history = training.fit(banked, loop, epochs=2)
    assert len(history) == 2


def test_the_step_donates_its_state(banked):
    loop = banked.start(0)
    banked.training.advance(loop, banked.order(loop))
    kept = [x.shape for x in jax.tree.leaves(loop.train) if not x.is_deleted()]
    assert kept == []


def test_the_report_of_a_step_outlives_the_next(plain):
    loop = plain.start(0)
    order = plain.order(loop)
    loop, report = plain.training.advance(loop, order)
    plain.training.advance(loop, order)
    assert np.isfinite(float(report.metrics["loss"]))


def test_an_epoch_covers_every_row_and_fills_its_last_batch_with_its_first_rows():
    seen = []

    def loss(params, extra, student, teacher, batch):
        jax.debug.callback(lambda rows: seen.append(np.asarray(rows)), batch.rows)
        return student.logits.sum(-1), extra, {}

    recorder = distillers.Distiller(distillers.cross_entropy().init, loss)
    program = make_program(recorder)
    training.fit(program, program.start(0), epochs=1)
    jax.effects_barrier()
    rows = np.concatenate(seen)
    assert [len(r) for r in seen] == [BATCH] * 3
    assert sorted(rows[:40]) == list(range(40))
    np.testing.assert_array_equal(rows[40:], rows[:8])


def test_epochs_come_in_different_orders(plain):
    loop = plain.start(0)
    first = plain.order(loop)
    for _ in range(plain.steps_per_epoch):
        loop, _ = plain.training.advance(loop, first)
    assert np.any(np.asarray(plain.order(loop)) != np.asarray(first))


def test_several_steps_in_one_dispatch_equal_single_steps(plain, double):
    one, _ = training.fit(plain, plain.start(0), epochs=2)
    two, _ = training.fit(double, double.start(0), epochs=2)
    assert_close(one, two)


def test_the_history_holds_the_mean_of_each_epochs_metrics(plain):
    loop = plain.start(0)
    losses = []
    for _ in range(2 * plain.steps_per_epoch):
        loop, report = plain.training.advance(loop, plain.order(loop))
        losses.append(float(report.metrics["loss"]))
    _, history = training.fit(plain, plain.start(0), epochs=2)
    means = np.reshape(losses, (2, -1)).mean(axis=1)
    np.testing.assert_allclose([r["train/loss"] for r in history], means, rtol=1e-5)


def test_another_seed_is_another_run(plain):
    first, _ = training.fit(plain, plain.start(0), epochs=1)
    again, _ = training.fit(plain, plain.start(0), epochs=1)
    other, _ = training.fit(plain, plain.start(1), epochs=1)
    assert_bitwise_equal(first.train, again.train)
    with pytest.raises(AssertionError):
        assert_bitwise_equal(first.train, other.train)


@pytest.mark.parametrize("saved_at", [3, 4, 5])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, banked, whole, saved_at):
    resumed, history = killed_and_resumed(
        banked, tmp_path, at=saved_at, epochs=3, every_steps=1
    )
    assert_bitwise_equal(whole[0], resumed)
    assert without_times(history) == without_times(whole[1])


@pytest.mark.slow
def test_a_resumed_run_of_hkd_ends_with_the_same_bits(tmp_path):
    program, _ = compile_holistic()
    whole, _ = training.fit(program, program.start(0), epochs=2)
    resumed, _ = killed_and_resumed(program, tmp_path, at=4, epochs=2)
    assert_bitwise_equal(whole, resumed)


def asked_before(dispatch):
    """Asks a run to stop before its n-th dispatch."""
    calls = iter(range(1000))
    return lambda: next(calls) == dispatch


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_to_the_same_bits(
    tmp_path, banked, whole, steps
):
    checkpoints = training.Checkpoints(tmp_path)
    with pytest.raises(training.Interrupted, match=f"after step {steps}") as caught:
        training.fit(
            banked,
            banked.start(0),
            epochs=3,
            checkpoints=checkpoints,
            stop=asked_before(steps),
        )
    assert caught.value.step == checkpoints.latest() == steps
    loop, record = checkpoints.restore(banked.like(steps))
    end, _ = training.fit(banked, loop, epochs=3, history=record["history"])
    assert_bitwise_equal(whole[0], end)


def test_a_run_that_is_asked_to_stop_at_its_end_is_complete(plain):
    steps = 2 * plain.steps_per_epoch
    _, history = training.fit(plain, plain.start(0), epochs=2, stop=asked_before(steps))
    assert len(history) == 2


def test_which_steps_share_a_dispatch_does_not_depend_on_saving_or_stopping(
    tmp_path, double
):
    program, sizes = double, []

    def noting(stage):
        def note(advance, size):
            return lambda *arguments: (sizes.append(size), advance(*arguments))[1]

        return stage._replace(
            advance=note(stage.advance, 1), advance_many=note(stage.advance_many, 2)
        )

    noted = dataclasses.replace(program, training=noting(program.training))
    often = training.Checkpoints(tmp_path / "often", every_steps=1)
    whole, _ = training.fit(noted, noted.start(0), epochs=2, checkpoints=often)
    assert sizes == [2, 1, 2, 1]
    checkpoints = training.Checkpoints(tmp_path / "asked")
    with pytest.raises(training.Interrupted):
        training.fit(
            noted,
            noted.start(0),
            epochs=2,
            checkpoints=checkpoints,
            stop=asked_before(1),
        )
    loop, _ = checkpoints.restore(program.like(2))
    end, _ = training.fit(noted, loop, epochs=2)
    assert sizes == [2, 1] * 4
    assert_bitwise_equal(whole.train, end.train)


def test_checkpoints_are_also_taken_by_the_clock(tmp_path, plain):
    saved = []

    class Noting(training.Checkpoints):
        def save(self, step, loop, record, *, wait):
            saved.append(step)

    for minutes, expected in ((1e-9, [1, 2, 3]), (60.0, [3])):
        saved.clear()
        checkpoints = Noting(tmp_path, every_minutes=minutes)
        training.fit(plain, plain.start(0), epochs=1, checkpoints=checkpoints)
        assert saved == expected


def failing_from(step):
    """A distiller whose loss is infinite from one step on."""

    def loss(params, extra, student, teacher, batch):
        bad = jnp.where(extra >= step, jnp.inf, 1.0)
        return student.logits.sum(-1) * 0 + bad, extra + 1, {"part": bad}

    def init(rngs, spec):
        return distillers.DistillerState({}, jnp.int32(0))

    return distillers.Distiller(init, loss)


def test_a_loss_that_is_not_finite_stops_and_names_step_parts_and_checkpoint(
    tmp_path, failing
):
    program = failing
    checkpoints = training.Checkpoints(tmp_path)
    with pytest.raises(DivergenceError) as caught:
        training.fit(program, program.start(0), epochs=5, checkpoints=checkpoints)
    message = str(caught.value)
    assert "not finite at step 4 (epoch 2): loss inf" in message
    assert "part inf" in message
    assert "last good checkpoint: step 3" in message
    assert checkpoints.latest() == 3


def test_no_checkpoint_is_taken_of_a_state_after_the_failure(tmp_path, failing):
    program = failing
    checkpoints = training.Checkpoints(tmp_path, every_steps=1, keep=9)
    with pytest.raises(DivergenceError):
        training.fit(program, program.start(0), epochs=5, checkpoints=checkpoints)
    assert checkpoints.latest() == 4


def test_no_checkpoint_is_taken_of_parameters_that_are_not_finite(tmp_path):
    def loss(params, extra, student, teacher, batch):
        # Finite, with a gradient that is not: the root of zero.
        bad = jnp.sqrt(jnp.maximum(jnp.sum(student.logits, -1), 0.0) * 0)
        return bad, extra, {}

    program = make_program(distillers.Distiller(distillers.cross_entropy().init, loss))
    checkpoints = training.Checkpoints(tmp_path, every_steps=1)
    with pytest.raises(DivergenceError, match=r"parameter is not finite after step 1;"):
        training.fit(program, program.start(0), epochs=1, checkpoints=checkpoints)
    assert checkpoints.steps() == []


def test_progress_off_a_terminal_is_one_plain_line_an_epoch(tmp_path, plain):
    with (tmp_path / "log").open("w") as file:
        training.fit(
            plain,
            plain.start(0),
            epochs=2,
            console=Console(file=file),
            description="mlp",
        )
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["mlp", "epoch 1/2"],
        ["mlp", "epoch 2/2"],
    ]


def test_a_batch_larger_than_the_dataset_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        training.compile_program(
            build_mlp(),
            make_dataset(rows=8),
            distillers.cross_entropy(),
            optimizer=optax.sgd(0.1),
            batch_size=9,
        )


class Noting(training.Hook):
    """Notes when it is called, and adds to each record."""

    def __init__(self):
        self.calls = []

    def due(self, run):
        return run.step == 2

    def on_step(self, run, metrics):
        self.calls.append((run.step, metrics["loss"]))

    def on_epoch(self, run, record):
        record["noted"] = run.step
        self.calls.append((run.step, len(run.records)))

    def between_epochs(self, run):
        self.calls.append((run.step, len(run.records)))


def test_a_hook_sees_the_steps_it_wants_and_adds_to_the_record(plain):
    hook, shown = Noting(), []
    _, history = training.fit(
        plain, plain.start(0), epochs=2, hooks=[hook], on_epoch=shown.append
    )
    (step, loss), *epochs = hook.calls
    assert step == 2
    assert np.isfinite(loss)
    assert epochs == [(3, 0), (3, 1), (6, 1), (6, 2)]
    assert [record["noted"] for record in history] == [3, 6]
    assert shown == history
