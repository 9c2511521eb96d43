"""Steps that are skipped because their result is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import arrays, assert_bitwise_equal, build_mlp, make_dataset
from training_support import NormalizedMLP, assert_close

from jaxkd import distillers, training
from jaxkd._errors import DivergenceError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RATE = training.learning_rate_schedule("linear", 0.05, 10)
INFINITY = jnp.float32(jnp.inf)
BAD_ROW = 7  # of 40, in batches of 8: in one of the five steps of each epoch


def spoilt(*, loss_is_finite):
    """Cross-entropy that one image spoils, with a bank that every step changes."""

    def init(rngs, spec):
        # What is infinite from the beginning is nobody's fault.
        return distillers.DistillerState({}, {"bank": jnp.ones(3), "mask": -INFINITY})

    def loss(params, extra, student, teacher, batch):
        bad = jnp.any(batch.rows == BAD_ROW)
        labels = jax.nn.one_hot(batch.labels, student.logits.shape[-1])
        losses = optax.softmax_cross_entropy(student.logits, labels)
        if loss_is_finite:  # and its gradient is not: the root of zero
            nothing = 0.0 * student.logits[:, 0]
            losses += jnp.sqrt(jnp.where(bad, nothing, 1.0 + nothing))
        else:
            losses *= jnp.where(bad, jnp.inf, 1.0)
        return losses, {**extra, "bank": extra["bank"] * 2.0}, {"part": losses.mean()}

    return distillers.Distiller(init, loss)


def make_program(distiller, *, max_skipped, steps_per_call=1, build=None):
    return training.compile_program(
        build or build_mlp(),
        make_dataset(),
        distiller,
        optimizer=training.make_optimizer("sgd", RATE, {"momentum": 0.9}),
        batch_size=8,
        steps_per_call=steps_per_call,
        max_skipped=max_skipped,
    )


def without_step(loop):
    return arrays(loop.train._replace(step=()))


@pytest.mark.parametrize(
    "loss_is_finite, build", [(False, NormalizedMLP), (True, None)]
)
def test_a_step_that_would_spoil_the_state_changes_nothing_but_its_number(
    loss_is_finite, build
):
    spoilt_once = spoilt(loss_is_finite=loss_is_finite)
    program = make_program(spoilt_once, max_skipped=1, build=build)
    loop = program.start(0)
    order = program.order(loop)
    moved = []
    for step in range(5):
        before = without_step(loop)
        loop, report = program.training.advance(loop, order)
        after = without_step(loop)
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        moved.append(not same)
        rows = np.asarray(order)[8 * step : 8 * step + 8]
        assert same == (BAD_ROW in rows) == bool(report.metrics["skipped"])
    assert moved.count(False) == 1
    assert int(loop.train.step) == 5
    np.testing.assert_array_equal(loop.train.extra["bank"], np.full(3, 2.0**4))


def test_the_record_counts_skipped_steps_and_leaves_them_out_of_the_means():
    # Five steps are two dispatches of two and one of one.
    program = make_program(
        spoilt(loss_is_finite=False), max_skipped=1, steps_per_call=2
    )
    loop, history = training.fit(program, program.start(0), epochs=2)
    assert [record["skipped"] for record in history] == [1, 1]
    assert all(0.0 < record["train/loss"] < 10.0 for record in history)
    assert history[0]["train/loss"] == pytest.approx(history[0]["train/part"])
    assert all(np.isfinite(x).all() for x in arrays(loop.train.student))
    # The schedule counts the four updates of each epoch, and so does the mean.
    rates = [record["train/learning_rate"] for record in history]
    expected = 0.05 * (1 - np.arange(8).reshape(2, 4) / 10).mean(axis=1)
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_too_many_in_a_row_end_the_run():
    def loss(params, extra, student, teacher, batch):
        return student.logits.sum(-1) * jnp.nan, extra, {}

    always = distillers.Distiller(distillers.cross_entropy().init, loss)
    program = make_program(always, max_skipped=3)
    message = r"not finite, again after skipped steps, at step 3 \(epoch 1\): loss nan"
    with pytest.raises(DivergenceError, match=message):
        training.fit(program, program.start(0), epochs=2)


def test_where_nothing_is_skipped_nothing_is_added():
    distiller = distillers.cross_entropy()
    plain, guarded = (make_program(distiller, max_skipped=n) for n in (0, 2))
    one, two = plain.start(0), guarded.start(0)
    assert one.monitor.skipped == ()
    assert "skipped" not in one.monitor.totals
    assert_bitwise_equal(one.train, two.train)
    one, _ = training.fit(plain, one, epochs=1)
    two, history = training.fit(guarded, two, epochs=1)
    assert_close(one.train, two.train)
    assert history[0]["skipped"] == 0
