"""Checkpoints that are written while training continues."""

import errno
import threading

import jax
import pytest
from support import assert_bitwise_equal
from training_support import banked

from jaxkd import DivergenceError, training
from jaxkd.training._storage import background, items

SECONDS = 60


@pytest.fixture(scope="module")
def program():
    return banked()[0]


class HeldWrite:
    """A write to disk that waits until it is allowed to begin."""

    def __init__(self):
        self.entered, self.allowed, self.begun = (
            threading.Event(),
            threading.Event(),
            [],
        )

    def __call__(self, folder, parts, record):
        self.begun.append(int(folder.name))
        self.entered.set()
        assert self.allowed.wait(SECONDS)
        write(folder, parts, record)


write = items.write


@pytest.fixture
def held(monkeypatch):
    held = HeldWrite()
    monkeypatch.setattr(items, "write", held)
    yield held
    held.allowed.set()


def fail_to_write(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full(monkeypatch):
    """A disk that is full."""
    monkeypatch.setattr(items, "write", fail_to_write)


class CallAt(training.Hook):
    """Calls a function before the first step after a number of them, if due."""

    def __init__(self, step, function):
        self._step, self._function = step, function

    def before_step(self, run):
        if run.step == self._step:
            self._function()


def fit(program, checkpoints, *hooks, epochs=1, **settings):
    return training.fit(
        program,
        program.start(0),
        epochs=epochs,
        checkpoints=checkpoints,
        hooks=hooks,
        **settings,
    )


def test_steps_are_taken_while_a_checkpoint_is_written(tmp_path, program, held):
    checkpoints = training.Checkpoints(tmp_path)

    def release():
        assert held.entered.wait(SECONDS)
        assert checkpoints.steps() == []
        held.allowed.set()

    # Three steps make an epoch, after which the first checkpoint is saved.
    fit(program, checkpoints, CallAt(5, release), epochs=2)
    assert checkpoints.steps() == [3, 6]


def test_a_checkpoint_holds_the_state_and_the_record_of_its_step(
    tmp_path, program, held
):
    before, _ = fit(program, None)
    checkpoints = training.Checkpoints(tmp_path, keep=2)
    fit(program, checkpoints, CallAt(5, held.allowed.set), epochs=2)
    checkpoints.set_aside(6)
    restored, record = checkpoints.restore(program.like(3))
    assert_bitwise_equal(before, restored)
    assert [each["epoch"] for each in record["history"]] == [1]


def test_the_copies_of_an_accelerator_are_restored_bit_for_bit(tmp_path, program):
    loop, _ = fit(program, None)
    copied = training.Checkpoints(tmp_path)
    copied._save(3, jax.device_get(_arrays(loop)), {"trials": []})
    restored, _ = copied.restore(program.like(3))
    assert_bitwise_equal(loop, restored)


def _arrays(loop):
    from jaxkd.training._storage import checkpoints

    return checkpoints.flattened(checkpoints._parts(loop))


def test_a_copy_does_not_change_when_the_original_is_overwritten():
    array = jax.numpy.arange(8.0)
    (copy,) = background.snapshot([array])
    overwrite = jax.jit(lambda x: x + 1, donate_argnums=0)
    overwrite(array)
    assert array.is_deleted()
    assert copy.tolist() == list(range(8))


def test_a_second_save_waits_for_the_first(tmp_path, program, held):
    checkpoints, loop = training.Checkpoints(tmp_path), program.start(0)
    checkpoints.save(1, loop, {}, wait=False)
    second = threading.Thread(
        target=checkpoints.save, args=(2, loop, {}), kwargs={"wait": False}
    )
    second.start()
    assert held.entered.wait(SECONDS)
    second.join(0.2)
    assert second.is_alive()
    assert held.begun == [1]
    held.allowed.set()
    second.join()
    checkpoints.wait()
    assert held.begun == checkpoints.steps() == [1, 2]


def test_a_failed_write_ends_the_run_at_the_next_step(tmp_path, program, full):
    checkpoints, later = training.Checkpoints(tmp_path), []

    def wait_for_the_thread():
        assert checkpoints._writer._writing.exception(SECONDS) is not None

    hooks = CallAt(4, wait_for_the_thread), CallAt(5, lambda: later.append(5))
    with pytest.raises(
        training.CheckpointError, match=r"step 3 .*\(No space left on device\)"
    ):
        fit(program, checkpoints, *hooks, epochs=2)
    assert later == list(tmp_path.iterdir()) == []


def test_a_write_that_fails_after_the_last_step_fails_the_run(tmp_path, program, full):
    with pytest.raises(training.CheckpointError, match="step 3 "):
        fit(program, training.Checkpoints(tmp_path))


def test_an_error_of_a_write_is_raised_once(tmp_path, program, full):
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(1, program.start(0), {}, wait=False)
    with pytest.raises(training.CheckpointError):
        checkpoints.wait()
    checkpoints.wait()
    checkpoints.poll()


def test_the_next_save_raises_the_error_of_the_last(tmp_path, program, full):
    checkpoints, loop = training.Checkpoints(tmp_path), program.start(0)
    checkpoints.save(1, loop, {}, wait=False)
    with pytest.raises(training.CheckpointError, match="step 1 "):
        checkpoints.save(2, loop, {}, wait=False)


def test_an_error_of_the_run_also_names_a_failed_write(tmp_path, program, full):
    def diverge():
        raise DivergenceError("diverged", step=4)

    with pytest.raises(DivergenceError) as caught:
        fit(program, training.Checkpoints(tmp_path), CallAt(4, diverge), epochs=2)
    (note,) = caught.value.__notes__
    assert "could not write the checkpoint of step 3" in note


def test_the_description_of_the_last_good_checkpoint_names_a_failed_write(
    tmp_path, program, full
):
    from jaxkd.training._storage.saver import Saver

    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(3, program.start(0), {}, wait=False)
    kept = Saver(checkpoints, 3).kept()
    assert kept.startswith("no checkpoint; could not write the checkpoint of step 3")


def test_a_run_that_is_asked_to_stop_waits_for_the_write(tmp_path, program, held):
    checkpoints = training.Checkpoints(tmp_path)
    threading.Timer(0.3, held.allowed.set).start()
    calls = iter(range(100))
    with pytest.raises(training.Interrupted):
        fit(program, checkpoints, epochs=2, stop=lambda: next(calls) == 3)
    assert held.begun == checkpoints.steps() == [3]
