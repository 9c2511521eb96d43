"""A recording is read in slices, and fits only the runs that it was made for."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recording_support import BATCH, DATASET, ON, draw, record, recorded, views_of
from support import make_dataset

from jaxkd import data, recordings
from jaxkd._errors import InvalidInputError
from jaxkd.distillers import Classifier
from jaxkd.models import ModelOutput

OFF = data.Augmentation()
FITTING = {"augmentation": ON, "batch_size": BATCH, "data_seed": 3, "epochs": 2}


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("augmented") / "r", 2)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("clean") / "r", 0)


def changed(**fields):
    return dataclasses.replace(DATASET, **fields)


def test_a_run_with_the_recorded_views_fits(augmented):
    augmented.check(DATASET, **FITTING)
    augmented.check(DATASET, **FITTING | {"epochs": 1})


@pytest.mark.parametrize("augmentation", [None, OFF])
@pytest.mark.parametrize("batch_size, data_seed, epochs", [(16, 3, 1), (7, 9, 1000)])
def test_clean_images_fit_every_run_without_augmentation(
    clean, augmentation, batch_size, data_seed, epochs
):
    clean.check(
        DATASET,
        augmentation=augmentation,
        batch_size=batch_size,
        data_seed=data_seed,
        epochs=epochs,
    )


RUNS = {
    "name": (
        {"dataset": changed(name="cifar", fingerprint="x")},
        "dataset",
        ["dataset is cifar", "made with quadrants"],
    ),
    "fingerprint": (
        {"dataset": changed(fingerprint="x")},
        "dataset",
        ["has the fingerprint x", DATASET.fingerprint],
    ),
    "rows": (
        {"dataset": data.take_subset(DATASET, 20)},
        "dataset",
        ["20 training rows", "made with 40", "--subset"],
    ),
    "image size": (
        {"dataset": make_dataset(size=16)},
        "image_size",
        ["16x16x1", "8x8x1", "Use 8"],
    ),
    "classes": (
        {"dataset": changed(class_names=("a", "b", "c", "d"))},
        "dataset",
        ["(a and class 0)"],
    ),
    "augmentation": (
        {"augmentation": data.Augmentation(2, False, mixup=0.2)},
        "recorded",
        ["crops with padding 1, flips", "crops with padding 2, mixup 0.2"],
    ),
    "no augmentation": (
        {"augmentation": None},
        "recorded",
        ["crops with padding 1, flips", "training uses none"],
    ),
    "seed": (
        {"data_seed": 5},
        "data_seed",
        ["data_seed is 5", "data seed 3", "Use 3"],
    ),
    "batch size": (
        {"batch_size": 32},
        "batch_size",
        ["batch_size is 32", "batch size 16", "Use 16"],
    ),
    "epochs": (
        {"epochs": 60},
        "epochs",
        ["epochs is 60", "has 2", "at most 2", "again for 60"],
    ),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_run_with_other_views_is_refused_with_both_values(augmented, run):
    change, argument, says = RUNS[run]
    settings = {"dataset": DATASET, **FITTING} | change
    with pytest.raises(InvalidInputError) as caught:
        augmented.check(settings.pop("dataset"), **settings)
    assert caught.value.argument == argument
    for text in (*says, str(augmented.path)):
        assert text in str(caught.value)


def test_clean_images_are_refused_with_augmentation(clean):
    says = (
        r"clean images, but training augments them \(crops with padding 1, flips\).*"
        r"Record with --epochs 2, or train without augmentation: --crop-padding 0 "
        "--flip False"
    )
    with pytest.raises(InvalidInputError, match=says):
        clean.check(DATASET, **FITTING)


def test_files_are_mapped_when_a_batch_is_read_and_closed_two_epochs_later(tmp_path):
    recording = recorded(tmp_path, 3)
    assert not recording._open
    for step in range(9):
        recording.stored(step, np.arange(BATCH))
    assert list(recording._open) == [1, 2]
    (files, _) = recording._open.values()
    assert all(isinstance(x, np.memmap) for x in files.values())


READ_BIG = """
import sys
import numpy as np
from jaxkd import recordings
recording = recordings.open(sys.argv[1])
recording.stored(0, np.arange(16))
with open("/proc/self/status") as file:
    found = [x for x in file if x.startswith("RssAnon")]
print(int(found[0].split()[1]) * 1024)
"""


@pytest.mark.slow
def test_a_recording_larger_than_the_memory_used_is_read(tmp_path):
    views = views_of(0)._replace(rows=200_000)
    names = [str(i) for i in range(1000)]
    with recordings.create(tmp_path, views, class_names=names) as writer:
        writer.begin_epoch()
        for _ in range(100):
            writer.append({"logits": np.ones((2000, 1000), np.float32)})
        writer.end_epoch()
    size = (tmp_path / "clean" / "logits.npy").stat().st_size
    command = [sys.executable, "-c", READ_BIG, str(tmp_path)]
    anonymous = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert size > 8e8
    assert anonymous < size / 2


def test_a_step_or_a_row_that_was_not_recorded_is_refused(augmented, clean):
    with pytest.raises(InvalidInputError, match=r"step 6 is in epoch 3, .* 2 epochs"):
        augmented.stored(6, np.arange(BATCH))
    with pytest.raises(InvalidInputError, match=r"rows must lie in \[0, 39\], got 38"):
        clean.stored(0, np.array([38, 40]))


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_changed_byte_is_found_when_its_file_is_first_read(tmp_path, epochs):
    recorded(tmp_path, epochs)
    folder = "epoch-00002" if epochs else "clean"
    file = tmp_path / folder / "logits.npy"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    recording = recordings.open(tmp_path)
    rows = np.arange(BATCH)
    if epochs:
        recording.stored(0, rows)  # the first epoch is intact
    with pytest.raises(InvalidInputError, match="is not what was written") as caught:
        recording.stored(3 if epochs else 0, rows)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda file: file.unlink(), "cannot be read"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "bytes in place of"),
    ],
)
def test_a_missing_or_short_file_is_found_when_the_recording_is_opened(
    tmp_path, damage, says
):
    recorded(tmp_path, 2)
    damage(tmp_path / "epoch-00001" / "logits.npy")
    with pytest.raises(InvalidInputError, match=says):
        recordings.open(tmp_path)


def test_a_damaged_classifier_is_refused(tmp_path):
    classifier = Classifier(np.ones((5, 4), "f"), np.ones(4, "f"))
    outputs = {"logits": draw(0), "embedding": draw(0, shape=(5,))}
    record(tmp_path, 0, outputs, classifier=classifier)
    (tmp_path / "classifier.npz").write_bytes(b"PK")
    with pytest.raises(InvalidInputError, match=r"classifier\.npz is damaged"):
        recordings.open(tmp_path)


def test_abstract_outputs_have_the_shapes_and_dtypes_of_decoded_ones(tmp_path):
    outputs = {"logits": draw(0), "stages.1": draw(0, shape=(2, 2, 3))}
    available = ["logits", "embedding", "stages.0", "stages.1"]
    record(tmp_path, 0, outputs, dtype="float16", available=available)
    recording = recordings.open(tmp_path)
    decoded = recording.decode(recording.stored(0, np.arange(6)))
    abstract = recording.abstract(6)
    assert jax.tree.structure(decoded) == jax.tree.structure(abstract)
    assert isinstance(abstract, ModelOutput)
    for x, y in zip(jax.tree.leaves(decoded), jax.tree.leaves(abstract), strict=True):
        assert x.shape == y.shape
        assert x.dtype == y.dtype == jnp.float32
    missing = abstract.embedding, abstract.stages[0]
    assert all(isinstance(x, recordings.NotRecorded) for x in missing)
    assert abstract.stages[1].shape == (6, 2, 2, 3)
    assert abstract.preactivations == ()


def test_what_contains_no_recording_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidInputError, match="contains no recording"):
            recordings.open(path)


def test_a_recording_describes_itself(augmented):
    says = "logits of 40 rows of quadrants, 2 epochs"
    assert says in repr(augmented)
