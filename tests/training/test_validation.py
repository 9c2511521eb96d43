"""Epochs that are chosen by the accuracy on validation images."""

import shutil

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from support import arrays, assert_bitwise_equal, build_mlp, make_dataset
from training_support import NormalizedMLP, without_times

from jaxkd import data, distillers, training
from jaxkd.training._evaluate import make_evaluators

EPOCHS = 5


def make_program(trials=None, **settings):
    return training.compile_program(
        NormalizedMLP,
        data.hold_out(make_dataset(), 0.2),
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.05, momentum=0.9),
        batch_size=16,
        trials=trials,
        **settings,
    )


@pytest.fixture(scope="module")
def program():
    return make_program()


@pytest.fixture(scope="module")
def three():
    return make_program(trials=3)


class Scripted(training.Hook):
    """Replaces the validation accuracies: a list of epochs, or of trials' epochs."""

    def __init__(self, values, name="validation/accuracy"):
        self.values, self.name = values, name

    def on_epoch(self, run, record):
        epoch = record["epoch"] - 1
        if run.program.trials is None:
            record[self.name] = float(self.values[epoch])
        else:
            record["trials"][self.name] = [float(each[epoch]) for each in self.values]
            record[self.name] = float(np.mean(record["trials"][self.name]))


class Snapshots(training.Hook):
    """Copies the students at the end of each epoch, by step."""

    def __init__(self):
        self.students = {}

    def between_epochs(self, run):
        train = run.loop.train
        self.students[run.step] = jax.device_get((train.student, train.rest))


def kept_student(folder, trial=0):
    network = nnx.eval_shape(lambda: NormalizedMLP(nnx.Rngs(0)))
    training.Checkpoints(folder).restore_network(network, trial=trial)
    _, parameters, statistics = nnx.split(network, nnx.Param, ...)
    return arrays((parameters, statistics))


def fit(program, *hooks, epochs=EPOCHS, loop=None, **settings):
    loop = program.start(0) if loop is None else loop
    return training.fit(program, loop, epochs=epochs, hooks=hooks, **settings)


def test_the_held_out_images_are_evaluated_as_by_evaluate(program):
    loop, history = fit(program, epochs=1)
    validation = program.experiment.dataset.validation
    network = training.freeze(program.student(loop), program.normalization)
    expected = training.evaluate(network, validation)
    assert expected.num_examples == 8
    assert history[0]["validation/accuracy"] == expected.accuracy
    assert history[0]["validation/loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert "validation/top5_accuracy" not in history[0]  # of four classes


def test_both_splits_and_both_sizes_share_one_compiled_evaluation(program):
    traces = []
    apply = program.experiment.frozen.apply

    def counted(*given):
        traces.append(None)
        return apply(*given)

    dataset = program.experiment.dataset
    student = program.student(program.start(0))
    network = training.freeze(student, program.normalization)
    runs = make_evaluators(counted, [dataset.test, dataset.validation])
    (test,), (validation,) = (run(network.variables) for run in runs)
    assert len(traces) == 1
    assert (test.num_examples, validation.num_examples) == (23, 8)


@pytest.mark.parametrize("trials", [None, 2])
def test_the_average_is_validated_too(trials):
    program = make_program(trials=trials, ema_decay=0.5)
    loop, (record,) = fit(program, epochs=1)
    found = program.validate_trials(training.averaged(loop))
    expected = np.mean([each.accuracy for each in found])
    assert record["validation/ema_accuracy"] == pytest.approx(expected)


def test_a_program_without_validation_images_chooses_nothing(tmp_path):
    program = training.compile_program(
        build_mlp(),
        make_dataset(),
        distillers.cross_entropy(),
        optimizer=optax.sgd(0.1),
        batch_size=16,
    )
    for hook in (training.KeepBest(tmp_path / "best"), training.EarlyStopping(2)):
        with pytest.raises(ValueError, match="nothing is chosen by the test accuracy"):
            fit(program, hook, epochs=1)
    with pytest.raises(ValueError, match="has no validation images"):
        program.validate_trials(program.start(0))


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.3], 2),  # of equal epochs the first
        ([0.5, 0.4, 0.3, 0.2, 0.1], 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 5),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 1),
    ],
)
def test_the_student_of_the_best_epoch_is_kept_bit_for_bit(
    tmp_path, program, accuracies, best
):
    snapshots = Snapshots()
    keep = training.KeepBest(tmp_path / "best")
    _, history = fit(program, Scripted(accuracies), keep, snapshots)
    (record,) = training.best_records(history)
    assert record["epoch"] == best
    assert_bitwise_equal(
        kept_student(tmp_path / "best"), arrays(snapshots.students[record["step"]])
    )


ACCURACIES = ([0.1, 0.3, 0.2, 0.3, 0.3], [0.5, 0.4, 0.3, 0.2, 0.1], [0.1, 0, 0, 0, 0.2])


def test_each_trial_is_kept_as_it_was_at_its_own_best_epoch(tmp_path, three):
    snapshots = Snapshots()
    keep = training.KeepBest(tmp_path / "best")
    _, history = fit(three, Scripted(ACCURACIES), keep, snapshots)
    records = training.best_records(history)
    assert [record["epoch"] for record in records] == [2, 1, 5]
    for trial, record in enumerate(records):
        students = arrays(snapshots.students[record["step"]])
        expected = [array[trial] for array in students]
        assert_bitwise_equal(kept_student(tmp_path / "best", trial), expected)


def test_the_best_average_is_kept_by_its_own_accuracy(tmp_path):
    program = make_program(ema_decay=0.5)
    averages = {}

    class Averages(training.Hook):
        def between_epochs(self, run):
            average = training.averaged(run.loop).train
            averages[run.step] = arrays((average.student, average.rest))

    accuracies = Scripted([0.1, 0.9, 0.2], "validation/ema_accuracy")
    keep = training.KeepBest(tmp_path / "best")
    fit(program, accuracies, keep, Averages(), epochs=3)
    assert_bitwise_equal(
        kept_student(tmp_path / "best"), averages[2 * program.steps_per_epoch]
    )


class Killed(Exception):
    pass


class KillAfter(training.Hook):
    """Ends the process, so to say, when an epoch is saved: before or after the best."""

    def __init__(self, epoch):
        self.epoch = epoch

    def between_epochs(self, run):
        if len(run.records) == self.epoch:
            raise Killed


def killed(program, folder, epoch, accuracies, *, best_is_saved):
    """Begin a run that is killed after an epoch; return the state to continue from."""
    hooks = [Scripted(accuracies), training.KeepBest(folder / "best")]
    hooks.insert(2 if best_is_saved else 1, KillAfter(epoch))
    checkpoints = training.Checkpoints(folder / "run")
    with pytest.raises(Killed):
        fit(program, *hooks, checkpoints=checkpoints)
    return resumed_from(program, folder)


def resumed_from(program, folder):
    checkpoints = training.Checkpoints(folder / "run")
    loop, record = checkpoints.restore(program.like(checkpoints.latest()))
    return loop, record["history"]


@pytest.mark.slow
@pytest.mark.parametrize("best_is_saved", [True, False])
@pytest.mark.parametrize("epoch", [1, 2, 4])
@pytest.mark.parametrize("trials", [None, 3])
def test_a_killed_run_keeps_the_same_students_as_an_undisturbed_one(
    tmp_path, program, three, trials, epoch, best_is_saved
):
    program = program if trials is None else three
    accuracies = ACCURACIES[0] if trials is None else ACCURACIES
    _, undisturbed = fit(
        program, Scripted(accuracies), training.KeepBest(tmp_path / "whole")
    )
    loop, history = killed(
        program, tmp_path, epoch, accuracies, best_is_saved=best_is_saved
    )
    assert len(history) == epoch
    hooks = Scripted(accuracies), training.KeepBest(tmp_path / "best")
    _, history = fit(program, *hooks, loop=loop, history=history)
    assert without_times(history) == without_times(undisturbed)
    for trial in range(trials or 1):
        assert_bitwise_equal(
            kept_student(tmp_path / "best", trial),
            kept_student(tmp_path / "whole", trial),
        )


def test_a_best_epoch_that_is_trained_again_is_not_the_best_before_it(
    tmp_path, program
):
    loop, history = killed(
        program, tmp_path, 3, [0.1, 0.3, 0.9, 0, 0], best_is_saved=True
    )
    shutil.rmtree(tmp_path / "run" / str(3 * program.steps_per_epoch))
    loop, history = resumed_from(program, tmp_path)
    # On another machine, the third epoch may end with another accuracy.
    snapshots = Snapshots()
    hooks = Scripted([0.1, 0.3, 0.2, 0, 0]), training.KeepBest(tmp_path / "best")
    fit(program, *hooks, snapshots, loop=loop, history=history)
    newest = training.Checkpoints(tmp_path / "best").latest()
    assert newest == 2 * program.steps_per_epoch
    assert (tmp_path / "best" / f"{3 * program.steps_per_epoch}.dropped").is_dir()


def test_a_lost_best_epoch_is_refused_when_a_run_is_resumed(tmp_path, program):
    loop, history = killed(
        program, tmp_path, 3, [0.1, 0.9, 0.2, 0, 0], best_is_saved=True
    )
    shutil.rmtree(tmp_path / "best")
    with pytest.raises(ValueError, match="of step 4, is missing or damaged"):
        fit(
            program,
            training.KeepBest(tmp_path / "best"),
            loop=loop,
            history=history,
        )


@pytest.mark.parametrize(
    ("accuracies", "patience", "last"),
    [
        ([0.1, 0.3, 0.3, 0.2, 0.9], 1, 3),  # an equal accuracy is no improvement
        ([0.1, 0.3, 0.3, 0.2, 0.9], 2, 4),
        ([0.1, 0.3, 0.3, 0.2, 0.9], 3, 5),
        ([0.5, 0.4, 0.6, 0.5, 0.4], 2, 5),
    ],
)
def test_a_run_ends_when_its_patience_is_used_up(program, accuracies, patience, last):
    _, history = fit(program, Scripted(accuracies), training.EarlyStopping(patience))
    assert history[-1]["epoch"] == last


def test_trials_end_when_none_of_them_improves(three):
    accuracies = [0.1, 0.3, 0, 0, 0], [0.5, 0, 0, 0, 0], [0.1, 0, 0.2, 0, 0.9]
    _, history = fit(three, Scripted(accuracies), training.EarlyStopping(1))
    assert history[-1]["epoch"] == 4


def test_the_epochs_before_the_end_are_those_of_a_run_without_patience(program):
    accuracies = [0.1, 0.3, 0.3, 0.2, 0.9]
    _, whole = fit(program, Scripted(accuracies))
    _, part = fit(program, Scripted(accuracies), training.EarlyStopping(2))
    assert without_times(part) == without_times(whole)[:4]


@pytest.mark.parametrize("epoch", [3, 4])
def test_the_waiting_goes_on_after_a_resume(tmp_path, program, epoch):
    accuracies = [0.1, 0.3, 0.3, 0.2, 0.9]
    patience = training.EarlyStopping(2)
    undisturbed, whole = fit(program, Scripted(accuracies), patience)
    loop, history = killed(program, tmp_path, epoch, accuracies, best_is_saved=True)
    resumed, history = fit(
        program, Scripted(accuracies), patience, loop=loop, history=history
    )
    assert without_times(history) == without_times(whole)
    assert_bitwise_equal(resumed.train.student, undisturbed.train.student)


def test_patience_is_a_positive_integer():
    with pytest.raises(ValueError, match="patience must be at least 1"):
        training.EarlyStopping(0)
