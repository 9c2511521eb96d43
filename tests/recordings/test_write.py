"""Teachers of any framework are recorded from their outputs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recording_support import DATASET, tree_of

from jaxkd import data, losses, recordings
from jaxkd._errors import InvalidInputError, InvalidTypeError
from jaxkd.distillers import Classifier

ROWS = np.arange(40)
LABELS = np.asarray(DATASET.train.labels)


def logits_of(rows=40, columns=4, seed=0):
    noise = np.random.default_rng(seed).normal(0, 0.1, (rows, columns))
    noise[np.arange(rows), LABELS[:rows] if rows <= 40 else 0] += 2
    return noise.astype("f")


def read(recording):
    return recording.decode(recording.stored(0, ROWS))


def chunked(array, size):
    return (array[start : start + size] for start in range(0, len(array), size))


@pytest.mark.parametrize("size", [1, 7, 40])
def test_chunks_are_recorded_as_the_whole_array(tmp_path, size):
    logits = logits_of()
    whole = recordings.write(tmp_path / "whole", DATASET, logits=logits)
    parts = recordings.write(tmp_path / "parts", DATASET, logits=chunked(logits, size))
    np.testing.assert_array_equal(read(whole).logits, logits)
    assert tree_of(tmp_path / "whole") == tree_of(tmp_path / "parts")
    assert whole.fingerprint == parts.fingerprint


def test_an_array_and_chunks_are_recorded_together(tmp_path):
    logits, embedding = logits_of(), logits_of(seed=1)[:, :3]
    found = recordings.write(
        tmp_path, DATASET, logits=chunked(logits, 9), embedding=embedding
    )
    np.testing.assert_array_equal(read(found).logits, logits)
    np.testing.assert_array_equal(read(found).embedding, embedding)


def test_batches_hold_all_outputs(tmp_path):
    logits, maps = logits_of(), np.ones((40, 2, 2, 3), "f")
    batches = (
        {"logits": x, "stages.0": y}
        for x, y in zip(chunked(logits, 16), chunked(maps, 16), strict=True)
    )
    found = recordings.write(tmp_path, DATASET, batches=batches)
    np.testing.assert_array_equal(read(found).logits, logits)
    np.testing.assert_array_equal(read(found).stages[0], maps)


def test_there_may_be_more_logits_than_classes(tmp_path):
    logits = logits_of(columns=7)
    found = recordings.write(tmp_path, DATASET, logits=logits)
    assert found.num_classes == 4
    np.testing.assert_array_equal(read(found).logits, logits)


def test_the_teacher_is_described_with_its_accuracy(tmp_path, capsys):
    logits = logits_of()
    logits[:4] = -logits[:4]
    found = recordings.write(
        tmp_path, DATASET, logits=logits, teacher={"model": "mine"}, dtype="float16"
    )
    assert found.teacher == {"model": "mine", "train_accuracy": 0.9}
    assert found.deviations["logits"]["values"] > 0
    assert capsys.readouterr().err == ""


def test_rows_in_another_order_are_suspected(tmp_path, capsys):
    recordings.write(tmp_path, DATASET, logits=np.roll(logits_of(), 1, 0))
    says = capsys.readouterr().err
    assert "right for only 0.0% of the training images of quadrants. Check" in says


def test_the_classifier_is_kept(tmp_path):
    embedding = logits_of(seed=1)[:, :3]
    classifier = Classifier(np.ones((3, 4), "f"), np.zeros(4, "f"))
    found = recordings.write(
        tmp_path,
        DATASET,
        logits=logits_of(),
        embedding=embedding,
        classifier=classifier,
    )
    np.testing.assert_array_equal(found.classifier.kernel, classifier.kernel)


class Unreadable:
    shape, dtype = (40, 4), np.float32

    def __len__(self):
        return 40

    def __getitem__(self, rows):
        return self

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


REFUSED = {
    "few rows": ({"logits": logits_of()[:39]}, "logits has 39 rows, but dataset.train"),
    "many rows": ({"logits": logits_of(41)}, "logits has 41 rows, but dataset.train"),
    "few chunks": ({"logits": [logits_of()[:39]]}, "has 39 rows, but the epoch has 40"),
    "many chunks": ({"logits": [logits_of(), logits_of()]}, "has 80 rows for an epoch"),
    "few classes": ({"logits": logits_of(columns=4)[:, :3]}, "but there are 4 classes"),
    "nan": ({"logits": np.full((40, 4), np.nan)}, "row 0 contain nan"),
    "nothing": ({}, "logits must be given, or batches"),
    "both": ({"logits": logits_of(), "batches": []}, "batches and logits are both giv"),
    "uneven": (
        {"logits": [logits_of()], "embedding": [logits_of()[:20], logits_of()[:20]]},
        "the same number of rows",
    ),
    "ended": (
        {"logits": chunked(logits_of(), 20), "embedding": [logits_of()[:20]]},
        "embedding has 20 rows, but other outputs have more",
    ),
    "flat": ({"logits": np.ones(40, "f")}, r"got the shape \(40,\)"),
    "top k": ({"logits": logits_of(), "top_k": 4}, "top_k is 4, but the teacher has 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(tmp_path, case):
    settings, says = REFUSED[case]
    with pytest.raises(InvalidInputError, match=says):
        recordings.write(tmp_path / "r", DATASET, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "logits, says",
    [
        (Unreadable(), "logits cannot be converted to a NumPy array .*requires grad"),
        (np.ones((40, 4), int), "logits must be an array of floats, got int64"),
    ],
)
def test_what_is_no_array_of_floats_is_refused(tmp_path, logits, says):
    with pytest.raises(InvalidTypeError, match=says):
        recordings.write(tmp_path / "r", DATASET, logits=logits)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_replaced_only_if_asked(tmp_path):
    folder = tmp_path / "r"
    recordings.write(folder, DATASET, logits=logits_of())
    before = tree_of(folder)
    with pytest.raises(InvalidInputError, match="pass overwrite=True"):
        recordings.write(folder, DATASET, logits=logits_of(seed=1))
    bad = np.full((40, 4), np.nan)
    with pytest.raises(InvalidInputError, match="row 0 contain nan"):
        recordings.write(folder, DATASET, logits=bad, overwrite=True)
    assert tree_of(folder) == before
    new = recordings.write(folder, DATASET, logits=logits_of(seed=1), overwrite=True)
    np.testing.assert_array_equal(read(new).logits, logits_of(seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_folder_with_anything_else_is_never_replaced(tmp_path):
    folder = tmp_path / "r"
    recordings.write(folder, DATASET, logits=logits_of())
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="contains something else"):
        recordings.write(folder, DATASET, logits=logits_of(), overwrite=True)
    foreign = tmp_path / "web"
    foreign.mkdir()
    (foreign / "manifest.json").write_text(json.dumps({"name": "app"}))
    with pytest.raises(InvalidInputError, match="is damaged"):
        recordings.write(foreign, DATASET, logits=logits_of(), overwrite=True)
    assert len(tree_of(tmp_path)) == 4


def test_a_path_may_hold_any_characters(tmp_path):
    folder = tmp_path / "a [b]*\n\udcff" / "r"
    recordings.write(folder, DATASET, logits=logits_of())
    assert recordings.open(folder).outputs == ("logits",)


@pytest.fixture
def pytorch():
    """A linear PyTorch teacher of digits, and the recording's view of its logits."""
    torch = pytest.importorskip("torch")
    digits = data.load("digits")
    images = torch.from_numpy(np.moveaxis(digits.train.images, -1, 1).copy())
    inputs = images.float() / 255
    labels = torch.from_numpy(np.asarray(digits.train.labels, np.int64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(teacher.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(teacher(inputs), labels).backward()
        optimizer.step()

    def logits():
        with torch.no_grad():
            for batch in inputs.split(256):
                yield teacher(batch)

    return digits, logits


def test_the_recorded_logits_of_a_pytorch_teacher_are_its_own(tmp_path, pytorch):
    digits, logits = pytorch
    found = recordings.write(tmp_path, digits, logits=logits())
    rows = np.arange(len(digits.train.labels))
    expected = np.concatenate([x.numpy() for x in logits()])
    stored = found.decode(found.stored(0, rows)).logits
    np.testing.assert_array_equal(stored, expected)
    assert found.teacher["train_accuracy"] > 0.9


def test_a_student_learns_from_a_pytorch_teacher_by_kd_alone(tmp_path, pytorch):
    digits, logits = pytorch
    recording = recordings.write(tmp_path, digits, logits=logits(), dtype="float16")
    images = jnp.asarray(digits.train.images.reshape(-1, 64), jnp.float32) / 255
    rows = np.arange(len(images))
    teacher = recording.decode(recording.stored(0, rows)).logits

    @jax.jit
    def step(weights):
        def loss(w):
            return losses.soft_target_kl(images @ w, teacher, temperature=4.0).mean()

        return weights - 0.1 * jax.grad(loss)(weights)

    weights = jnp.zeros((64, 10))
    for _ in range(100):
        weights = step(weights)
    agreement = np.mean((images @ weights).argmax(-1) == teacher.argmax(-1))
    assert agreement > 0.85
