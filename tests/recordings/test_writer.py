"""A recording is written epoch by epoch, and continued after a kill."""

import dataclasses
import errno
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from recording_support import (
    BATCH,
    DATASET,
    NAMES,
    draw,
    record,
    recorded,
    tree_of,
    views_of,
)

from jaxkd import data, recordings
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.distillers import Classifier
from jaxkd.recordings import _epoch, _manifest


@pytest.mark.parametrize("epochs", [0, 2])
def test_what_is_read_equals_what_was_written(tmp_path, epochs):
    outputs = {
        "logits": draw(epochs),
        "embedding": draw(epochs, seed=1, shape=(5,)),
        "stages.0": draw(epochs, seed=2, shape=(2, 2, 3)),
    }
    record(tmp_path / "a", epochs, outputs)
    recording = recordings.open(tmp_path / "a")
    steps = range(3 * epochs) if epochs else range(1)
    for step in steps:
        part = slice(step % 3 * BATCH, (step % 3 + 1) * BATCH)
        rows = np.arange(40)[part] if not epochs else np.zeros(BATCH, int)
        found = recording.decode(recording.stored(step, rows))
        for name, x in (
            ("logits", found.logits),
            ("embedding", found.embedding),
            ("stages.0", found.stages[0]),
        ):
            np.testing.assert_array_equal(x, outputs[name][step // 3, part])


def test_the_files_are_plain_numpy_arrays(tmp_path):
    logits = draw(2)
    record(tmp_path, 2, {"logits": logits})
    found = np.load(tmp_path / "epoch-00002" / "logits.npy", allow_pickle=False)
    np.testing.assert_array_equal(found, logits[1])


def test_clean_rows_are_read_in_any_order(tmp_path):
    logits = draw(0)
    record(tmp_path, 0, {"logits": logits})
    rows = np.array([39, 0, 7, 7])
    found = recordings.open(tmp_path).stored(123, rows)
    np.testing.assert_array_equal(found["logits"][""], logits[0, rows])


@pytest.mark.parametrize("moment", ["first epoch", "rename", "manifest", "between"])
def test_a_recording_killed_at_any_moment_ends_as_one_that_was_not(
    tmp_path, monkeypatch, moment
):
    class Killed(BaseException):
        pass

    logits = draw(3)
    record(tmp_path / "whole", 3, {"logits": logits})
    killed = tmp_path / "killed"
    if moment != "first epoch":
        record(killed, 3, {"logits": logits}, until=1)
    write = _manifest.write

    def failing(path, manifest):
        if len(manifest.epochs) == 2:
            raise Killed
        write(path, manifest)

    with monkeypatch.context() as patch:
        # A killed process removes nothing, and the system closes its files.
        patch.setattr(_epoch, "remove", lambda path: None)
        if moment == "rename":
            patch.setattr(
                _epoch.Epoch, "complete", lambda self: (_ for _ in ()).throw(Killed)
            )
        if moment == "manifest":
            patch.setattr(_manifest, "write", failing)
        with recordings.create(killed, views_of(3), class_names=NAMES) as writer:
            if moment != "between":
                writer.begin_epoch()
                writer.append({"logits": logits[writer.next_epoch, :BATCH]})
            if moment in ("rename", "manifest"):
                writer.append({"logits": logits[1, BATCH:]})
                with pytest.raises(Killed):
                    writer.end_epoch()
    left = {"first epoch": 0, "rename": 1, "manifest": 1, "between": 1}[moment]
    if left:
        assert recordings.open(killed).views.epochs == left
    record(killed, 3, {"logits": logits})
    assert tree_of(killed) == tree_of(tmp_path / "whole")


def test_only_files_of_epochs_that_the_manifest_does_not_list_are_removed(tmp_path):
    record(tmp_path, 4, {"logits": draw(4)}, until=2)
    for name in (".partial-epoch-00003", "epoch-00004", "clean", "notes"):
        (tmp_path / name).mkdir()
    recordings.create(tmp_path, views_of(4), class_names=NAMES).close()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("lock", "manifest.json", "epoch-00001", "epoch-00002", "notes")
    }


SLOW_WRITER = """
import sys, time
import numpy as np
from jaxkd import data, recordings
dataset = data.load("digits")
views = recordings.Views.of(dataset, epochs=3, batch_size=64, data_seed=0)
names = dataset.class_names
with recordings.create(sys.argv[1], views, class_names=names) as writer:
    writer.begin_epoch()
    writer.append({"logits": np.ones((views.rows_per_epoch, 10), np.float32)})
    writer.end_epoch()
    writer.begin_epoch()
    writer.append({"logits": np.ones((64, 10), np.float32)})
    print("waiting", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_writer_is_refused_until_the_first_is_killed(tmp_path):
    pytest.importorskip("fcntl")
    writer = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "waiting\n"
    digits = data.load("digits")
    views = recordings.Views.of(digits, epochs=3, batch_size=64, data_seed=0)
    again = lambda: recordings.create(tmp_path, views, class_names=digits.class_names)
    with pytest.raises(InvalidInputError, match=f"in use by process {writer.pid} on"):
        again()
    assert recordings.open(tmp_path).views.epochs == 1  # it can be read meanwhile
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    with again() as writer:
        assert writer.next_epoch == 1
        assert {path.name for path in tmp_path.iterdir()} == {
            *("lock", "manifest.json", "epoch-00001")
        }


def test_two_writers_in_one_process_exclude_each_other(tmp_path):
    pytest.importorskip("fcntl")
    with (
        recordings.create(tmp_path, views_of(0), class_names=NAMES),
        pytest.raises(InvalidInputError, match="is in use by process"),
    ):
        recordings.create(tmp_path, views_of(0), class_names=NAMES)
    recordings.create(tmp_path, views_of(0), class_names=NAMES).close()


def test_a_full_disk_is_one_clear_error_and_keeps_the_complete_epochs(
    tmp_path, monkeypatch
):
    logits = draw(3)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    record(tmp_path, 3, {"logits": logits}, until=2)
    with recordings.create(tmp_path, views_of(3), class_names=NAMES) as writer:
        writer.begin_epoch()
        monkeypatch.setattr(_epoch.Epoch, "_write_bytes", full)
        with pytest.raises(OSError, match="No space left") as caught:
            writer.append({"logits": logits[2, :BATCH]})
    text = str(caught.value)
    assert f"cannot write {tmp_path} (No space left on device). It keeps its 2 " in text
    assert "2 complete epochs; the same command continues it" in text
    assert not list(tmp_path.glob(".partial*"))
    monkeypatch.undo()
    recording = recordings.open(tmp_path)
    assert recording.views.epochs == 2
    found = recording.decode(recording.stored(3, np.zeros(BATCH))).logits
    np.testing.assert_array_equal(found, logits[1, :BATCH])


def test_a_recording_that_cannot_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(InvalidInputError, match=r"needs 1\.8 kB more, .* 1\.0 kB left"):
        record(tmp_path, 2, {"logits": draw(2)})


CHANGES = {
    "dtype": ({"dtype": "float16"}, 'dtype is "float16", .* begun with "float32"'),
    "top_k": ({"top_k": 2}, "top_k is 2, .* begun with null"),
    "teacher": ({"teacher": {"run": "b"}}, r'teacher is {"run": "b"}, .* {"run": "a"}'),
    "load_options": ({"load_options": {"image_size": 8}}, "image_size.* begun with {}"),
    "class_names": ({"class_names": ("a", "b", "c", "d")}, '"a", "b".*"class 0", '),
    "seed": ({"views": views_of(2, data_seed=4)}, "data_seed is 4, .* begun with 3"),
    "batch": ({"views": views_of(2, batch_size=8)}, "batch_size is 8, .* with 16"),
    "clean": ({"views": views_of(0)}, r"epochs is 0 \(clean images\), .* with 2"),
    "augmentation": (
        {
            "views": views_of(
                2,
                dataset=dataclasses.replace(
                    DATASET, augmentation=data.Augmentation(2, False)
                ),
            )
        },
        "augmentation is crops with padding 2, .* with crops with padding 1, flips",
    ),
    "dataset": (
        {"views": views_of(2, dataset=dataclasses.replace(DATASET, name="other"))},
        "dataset is other, .* begun with quadrants",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_recording_is_not_continued_with_other_settings(tmp_path, change):
    settings = {"class_names": NAMES, "teacher": {"run": "a"}}
    record(tmp_path, 2, {"logits": draw(2)}, until=1, **settings)
    before = tree_of(tmp_path)
    other, says = CHANGES[change]
    with pytest.raises(InvalidInputError, match=says) as caught:
        recordings.create(
            tmp_path, **{"views": views_of(2), **settings, **other}
        ).close()
    assert "\n" not in str(caught.value)
    assert tree_of(tmp_path) == before


def test_epochs_are_added_to_a_complete_recording_and_keep_its_fingerprint(tmp_path):
    logits = draw(3)
    record(tmp_path / "once", 3, {"logits": logits})
    record(tmp_path / "twice", 2, {"logits": logits[:2]})
    before = recordings.open(tmp_path / "twice").fingerprint
    record(tmp_path / "twice", 3, {"logits": logits})
    assert tree_of(tmp_path / "once") == tree_of(tmp_path / "twice")
    assert recordings.open(tmp_path / "twice").fingerprint == before
    with pytest.raises(InvalidInputError, match=r"epochs is 2, .* 3 complete epochs"):
        recordings.create(tmp_path / "twice", views_of(2), class_names=NAMES)


def test_other_outputs_have_another_fingerprint(tmp_path):
    first = recorded(tmp_path / "a").fingerprint
    record(tmp_path / "b", 0, {"logits": draw(0, seed=1)})
    assert recordings.open(tmp_path / "b").fingerprint != first


def test_a_folder_with_anything_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="exists and is not a recording"):
        recordings.create(tmp_path, views_of(0), class_names=NAMES)
    with pytest.raises(InvalidInputError, match="is not a folder"):
        recordings.create(tmp_path / "notes.txt", views_of(0), class_names=NAMES)
    assert tree_of(tmp_path) == {"notes.txt": b"mine"}


def test_an_existing_recording_is_only_continued_if_asked(tmp_path):
    recorded(tmp_path)
    with pytest.raises(InvalidInputError, match="already contains a recording"):
        recordings.create(tmp_path, views_of(0), class_names=NAMES, resume=False)


BAD = {
    "nan": ({"logits": np.full((4, 4), np.nan)}, "logits of row 0 contain nan"),
    "inf": ({"logits": np.full((4, 4), np.inf)}, "logits of row 0 contain inf"),
    "masked": ({"logits": np.full((4, 4), -np.inf)}, "row 0 are all -inf"),
    "large": ({"logits": np.full((4, 4), 1e300)}, r"contain 1e\+300"),
    "minus": (
        {"logits": np.ones((4, 4)), "embedding": np.full((4, 2), -np.inf)},
        "embedding of row 0 contain -inf",
    ),
    "few": ({"logits": np.ones((4, 3))}, r"shape \(3,\), but there are 4 classes"),
    "axes": ({"logits": np.ones((4, 4, 1))}, r"shape \(4, 1\), but there are 4 cl"),
    "name": ({"logit": np.ones((4, 4))}, "outputs has 'logit', but the outputs of"),
    "up": ({"../logits": np.ones((4, 4))}, "outputs has '../logits', but the out"),
    "rows": (
        {"logits": np.ones((4, 4)), "embedding": np.ones((3, 2))},
        "the same number of rows, got {'logits': 4, 'embedding': 3}",
    ),
    "many": ({"logits": np.ones((41, 4))}, "has 41 rows for an epoch of 40"),
    "none": ({}, "must hold at least one"),
}


@pytest.mark.parametrize("case", BAD)
def test_outputs_that_cannot_be_a_teachers_are_refused(tmp_path, case):
    outputs, says = BAD[case]
    with recordings.create(tmp_path, views_of(0), class_names=NAMES) as writer:
        writer.begin_epoch()
        with pytest.raises(InvalidInputError, match=says):
            writer.append(outputs)


def test_outputs_must_be_floats_of_the_same_shapes_as_before(tmp_path):
    with recordings.create(tmp_path, views_of(0), class_names=NAMES) as writer:
        writer.begin_epoch()
        with pytest.raises(InvalidTypeError, match="array of floats, got int64"):
            writer.append({"logits": np.ones((4, 4), np.int64)})
        writer.append({"logits": np.ones((4, 4))})
        with pytest.raises(InvalidInputError, match=r"logits \[5\], .* logits \[4\]"):
            writer.append({"logits": np.ones((4, 5))})


def test_an_epoch_with_missing_rows_is_not_completed(tmp_path):
    with recordings.create(tmp_path, views_of(0), class_names=NAMES) as writer:
        writer.begin_epoch()
        writer.append({"logits": np.ones((39, 4))})
        with pytest.raises(InvalidInputError, match="has 39 rows, but the epoch has 4"):
            writer.end_epoch()
        with pytest.raises(InvalidInputError, match="0 complete epochs of 1"):
            writer.finish()
    with pytest.raises(InvalidInputError, match="no complete epoch yet"):
        recordings.open(tmp_path)


def test_masked_logits_are_kept(tmp_path):
    logits = draw(0)
    logits[0, :, 2] = -np.inf
    record(tmp_path, 0, {"logits": logits})
    found = recordings.open(tmp_path).stored(0, np.arange(40))["logits"][""]
    np.testing.assert_array_equal(found, logits[0])


def test_several_epochs_without_augmentation_are_refused():
    plain = dataclasses.replace(DATASET, augmentation=data.Augmentation())
    with pytest.raises(InvalidInputError, match="epochs is 2, but quadrants has no"):
        views_of(2, dataset=plain)


def test_the_rows_of_augmented_images_are_stored_and_compared(tmp_path):
    rows = np.random.default_rng(0).integers(0, 40, (2, 48))
    record(tmp_path, 2, {"logits": draw(2)}, rows=rows)
    recording = recordings.open(tmp_path)
    recording.stored(4, rows[1, 16:32])
    with pytest.raises(InvalidInputError, match="rows of step 4 are not those that"):
        recording.stored(4, rows[1, 15:31])


@pytest.mark.parametrize("rows", [[1, 2, 3, 4], [0, 1, 2], [0.0, 1.0, 2.0, 3.0]])
def test_the_rows_of_clean_images_must_be_in_order(tmp_path, rows):
    with recordings.create(tmp_path, views_of(0), class_names=NAMES) as writer:
        writer.begin_epoch()
        with pytest.raises(InvalidInputError, match="rows must be 0 to 3, in order"):
            writer.append({"logits": np.ones((4, 4))}, rows=np.array(rows))


def test_the_classifier_is_recorded(tmp_path):
    rng = np.random.default_rng(0)
    classifier = Classifier(*(rng.normal(size=s).astype("f") for s in ((5, 4), (4,))))
    outputs = {"logits": draw(0), "embedding": draw(0, shape=(5,))}
    record(tmp_path, 0, outputs, classifier=classifier)
    found = recordings.open(tmp_path).classifier
    np.testing.assert_array_equal(found.kernel, classifier.kernel)
    np.testing.assert_array_equal(found.bias, classifier.bias)


def test_the_manifest_tells_what_the_recording_holds(tmp_path):
    record(tmp_path, 2, {"logits": draw(2)}, teacher={"run": "runs/t"}, dtype="float16")
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["views"]["epochs"] == 2
    assert content["teacher"] == {"run": "runs/t"}
    assert 0 < content["deviations"]["logits"]["values"] < 0.01
