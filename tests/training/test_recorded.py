"""A recorded teacher teaches what its network does."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import assert_bitwise_equal, build_mlp, build_resnet, make_dataset
from training_support import (
    NormalizedMLP,
    assert_close,
    killed_and_resumed,
    without_times,
)

from jaxkd import data, distillers, training
from jaxkd._errors import Interrupted, InvalidInputError
from jaxkd.distillers import Distiller, DistillerState, Pretraining
from jaxkd.training._record import choose_outputs

AUGMENTATION = data.Augmentation(crop_padding=1, flip=True)
DATASET = dataclasses.replace(make_dataset(), augmentation=AUGMENTATION)
EPOCHS, BATCH, DATA_SEED = 3, 16, 0  # 40 rows: the last batch is filled up


@functools.cache
def teacher():
    return training.freeze(build_mlp()(nnx.Rngs(7)))


def record(path, dataset=DATASET, **settings):
    given = {"epochs": EPOCHS, "batch_size": BATCH, "data_seed": DATA_SEED}
    return training.record(teacher(), dataset, path, **given | settings)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("recorded") / "teacher")


def compiled(taught_by, dataset=DATASET, distiller=None, **settings):
    return training.compile_program(
        NormalizedMLP,
        dataset,
        distiller or distillers.recipe("kd"),
        optimizer=training.decayed_sgd(0.05, momentum=0.9, weight_decay=1e-4),
        teacher=taught_by,
        **{"batch_size": BATCH} | settings,
    )


def trained(taught_by, *arguments, epochs=EPOCHS, **settings):
    program = compiled(taught_by, *arguments, **settings)
    loop, history = training.fit(program, program.start(0, DATA_SEED), epochs=epochs)
    return loop, without_times(history)


@functools.cache
def live():
    return trained(teacher())


def assert_same(ours, theirs):
    """The same state, bit for bit, and the same records."""
    assert_bitwise_equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]


def stream(dataset):
    def split(part):
        return data.Split(data.Streamed(part.images), part.labels)

    return dataclasses.replace(
        dataset, train=split(dataset.train), test=split(dataset.test)
    )


def files(path):
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.npy")
    }


def test_a_student_of_a_recording_has_the_bits_of_the_teachers_student(recording):
    assert_same(trained(recording), live())


@pytest.mark.slow
def test_streamed_images_and_a_recording_come_together(recording):
    assert_same(trained(recording, stream(DATASET)), live())


def test_trials_share_a_recording(recording):
    assert_same(trained(recording, trials=2), trained(teacher(), trials=2))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"steps_per_call": 2}, {"trials": 2}])
def test_steps_in_one_call_learn_the_same_up_to_rounding(recording, settings):
    settings = {**settings, "fused": True}
    ours, theirs = trained(recording, **settings), trained(teacher(), **settings)
    assert_close(ours[0].train.student, theirs[0].train.student, rtol=1e-4)


@pytest.mark.slow
def test_streamed_images_are_recorded_with_the_same_bits(tmp_path, recording):
    streamed = record(tmp_path / "streamed", stream(DATASET))
    assert files(streamed.path) == files(recording.path)


def test_a_clean_recording_teaches_a_run_of_any_length(tmp_path):
    clean = record(tmp_path / "clean", make_dataset(), epochs=0)
    assert clean.views.clean
    ours = trained(clean, make_dataset(), epochs=4)
    assert_same(ours, trained(teacher(), make_dataset(), epochs=4))


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_resumes_with_its_recording(tmp_path, recording):
    ended, _ = killed_and_resumed(compiled(recording), tmp_path, at=4, epochs=EPOCHS)
    assert_bitwise_equal(ended, live()[0])


@pytest.mark.slow
def test_a_run_that_goes_back_reads_the_earlier_outputs_again(recording):
    program = compiled(recording)

    def losses():
        loop, found = program.start(0, DATA_SEED), []
        for _ in range(4):
            loop, report = program.training.advance(loop, program.order(loop))
            found.append(float(report.metrics["loss"]))
        return found

    assert losses() == losses()


@pytest.mark.slow
def test_a_recording_that_was_stopped_continues_with_the_same_bits(tmp_path, recording):
    calls = []

    def stop():
        calls.append(None)
        return len(calls) == 5  # in the second epoch

    with pytest.raises(Interrupted, match="1 of 3 epochs"):
        record(tmp_path / "stopped", stop=stop)
    continued = record(tmp_path / "stopped")
    assert files(continued.path) == files(recording.path)
    assert continued.fingerprint == recording.fingerprint


def with_pretraining():
    """KD with a head that is pretrained for a number of epochs."""

    def init(rngs, spec):
        return DistillerState({"scale": jnp.ones(())}, {})

    def pretrain(params, extra, student, teacher, batch):
        error = params["scale"] * student.logits - teacher.logits
        return jnp.square(error).mean(-1), extra, {}

    def nothing(params, extra, student, teacher, batch):
        return 0 * student.logits[:, 0], extra, {}

    stage = Pretraining(2, pretrain, trains_student=True, finish=DistillerState)
    return distillers.weighted(
        kd=(1.0, distillers.soft_targets(temperature=4.0)),
        head=(1.0, Distiller(init, nothing, stage)),
    )


@pytest.mark.slow
def test_the_epochs_of_pretraining_are_recorded_first(recording):
    ours = trained(recording, distiller=with_pretraining(), epochs=1)
    assert_same(ours, trained(teacher(), distiller=with_pretraining(), epochs=1))
    with pytest.raises(InvalidInputError, match=r"epochs is 4.* has 3"):
        trained(recording, distiller=with_pretraining(), epochs=2)


def test_the_recorded_outputs_are_those_of_the_augmented_images(recording):
    views = training.training_views(
        DATASET, epochs=EPOCHS, batch_size=BATCH, data_seed=DATA_SEED, first_epoch=1
    )
    step = 3
    for epoch in views:
        for images in epoch:
            rows = recording_rows(recording, step)
            seen = recording.decode(recording.stored(step, rows))
            expected = teacher()(images)
            np.testing.assert_allclose(seen.logits, expected.logits, rtol=1e-5)
            step += 1
    assert step == 9


def recording_rows(recording, step):
    epoch, place = divmod(step, 3)
    rows = np.load(recording.path / f"epoch-{epoch + 1:05d}" / "rows.npy")
    return rows[place * BATCH : (place + 1) * BATCH]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"augmentation": data.Augmentation(crop_padding=2)}, "padding 1, flips"),
        ({"batch_size": 20}, "batch size 16"),
        ({"dataset": dataclasses.replace(DATASET, fingerprint="other")}, "other"),
        ({"dataset": make_dataset(32)}, "32 training rows"),
    ],
)
def test_a_run_with_other_images_is_refused(recording, changed, said):
    with pytest.raises(InvalidInputError, match=said):
        compiled(recording, **changed)


def test_a_run_with_another_data_seed_is_refused_before_and_after_its_start(recording):
    program = compiled(recording)
    with pytest.raises(InvalidInputError, match="data_seed is 1"):
        program.start(0, 1)
    other = compiled(teacher()).start(0, 1)
    with pytest.raises(InvalidInputError, match=f"data seed {DATA_SEED}"):
        training.fit(program, other, epochs=1)


def test_more_epochs_than_recorded_are_refused_and_fewer_are_not(recording):
    program = compiled(recording)
    with pytest.raises(InvalidInputError, match=r"epochs is 4.* has 3"):
        training.fit(program, program.start(0, DATA_SEED), epochs=4)
    training.fit(program, program.start(0, DATA_SEED), epochs=1)


def test_a_method_whose_output_is_missing_is_refused_at_the_start(tmp_path):
    logits = record(tmp_path / "logits", outputs=["logits"], epochs=1)
    program = compiled(logits, distiller=distillers.recipe("crd+kd"))
    with pytest.raises(InvalidInputError, match=r"embedding.*--outputs logits e"):
        program.start(0, DATA_SEED)


def test_views_that_no_teacher_was_asked_about_are_refused(recording):
    turned = distillers.cross_entropy()._replace(views=lambda images: images)
    with pytest.raises(InvalidInputError, match="views of the images"):
        compiled(recording, distiller=turned)


def test_clean_images_are_refused_while_the_dataset_is_augmented(tmp_path):
    with pytest.raises(InvalidInputError, match=r"crops with padding 1, flips.*epochs"):
        record(tmp_path / "clean", epochs=0)
    assert not (tmp_path / "clean").exists()


def test_an_unknown_output_lists_those_of_the_teacher(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"'stages.2'.* logits \(4\), embedding"
    ):
        record(tmp_path / "unknown", outputs=["stages.2"])
    assert not (tmp_path / "unknown").exists()


def test_the_name_of_a_group_stands_for_all_its_maps():
    available = {"logits": (4,), "stages.0": (8, 8, 4), "stages.1": (4, 4, 8)}
    chosen = choose_outputs(["stages", "logits"], available)
    assert list(chosen) == ["logits", "stages.0", "stages.1"]
    assert list(choose_outputs(["stages.1"], available)) == ["stages.1"]


@functools.cache
def digits():
    return data.take_subset(data.load("digits"), 200)


@functools.cache
def digits_teacher():
    return training.freeze_teacher(
        build_resnet(classes=10)(nnx.Rngs(3)),
        data.channel_statistics(digits().train.images),
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "hkd+kd", "crd+kd", "at+kd", "hint+kd"])
def test_three_students_of_digits_have_the_bits_of_the_teachers_students(
    tmp_path, method
):
    recorded = training.record(
        digits_teacher(),
        digits(),
        tmp_path / "teacher",
        outputs=["logits", "embedding", "stages", "preactivations"],
        epochs=2,
        data_seed=9,
    )

    def students(taught_by):
        settings = {"hkd": {"dim": 8, "num_negatives": 20}} if "hkd" in method else None
        program = training.compile_program(
            build_resnet(classes=10),
            digits(),
            distillers.recipe(method, settings=settings),
            optimizer=training.decayed_sgd(0.05, momentum=0.9, weight_decay=1e-4),
            teacher=taught_by,
            trials=3,
        )
        loop, history = training.fit(program, program.start(0, 9), epochs=2)
        return loop, without_times(history)

    assert_same(students(recorded), students(digits_teacher()))
