"""Build what students learn from: images, labels, and a teacher's recorded outputs."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxkd import data, distillers, models, recordings, training

# As in TFDS and `data.ImageDataset`.
UNLABELED = -1
DATASET, CLASSES = "fashion_mnist", 10
# Networks of the scenario "five classes" are trained without the other ones.
SEEN = 5
VALIDATION = 6_000
TEACHER_EPOCHS = 10
_CHUNK = 500


class Outputs(NamedTuple):
    """A network's outputs for some images.

    Attributes:
        logits: ``[images, classes]``.
        embedding: ``[images, features]``.
    """

    logits: np.ndarray
    embedding: np.ndarray

    def of(self, rows: np.ndarray) -> "Outputs":
        """Select images."""
        return Outputs(self.logits[rows], self.embedding[rows])


class Answers(NamedTuple):
    """A network's outputs for all images of the dataset, of all classes."""

    train: Outputs
    test: Outputs


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Which labels the students get.

    Attributes:
        labels_per_class: Images of each class that keep their label; None for all.
        noise: Share of the labels that are replaced by another class.
        classes: Teacher and students are trained on the classes below this one.
    """

    labels_per_class: int | None = None
    noise: float = 0.0
    classes: int = CLASSES


SCENARIOS = {
    "all labels": Scenario(),
    "five classes": Scenario(classes=SEEN),
    "100 labels": Scenario(labels_per_class=100),
    "40 % noise": Scenario(noise=0.4),
    "10 labels": Scenario(labels_per_class=10),
    "20 % noise": Scenario(noise=0.2),
    "1000 labels": Scenario(labels_per_class=1000),
}
"""The scenarios, by the name in results."""


class Lesson(NamedTuple):
    """What the students of a scenario learn from.

    Attributes:
        whole: All images, of all classes, with their true labels.
        dataset: Images and labels of the scenario. In a lesson for validation, its test
            images are training images that the students do not see.
        recording: The teacher's outputs for the training images of ``dataset``.
        teacher: The teacher's outputs for the images of ``whole``.
    """

    whole: data.ImageDataset
    dataset: data.ImageDataset
    recording: recordings.Recording
    teacher: Answers


def prepare(work: Path, name: str, *, validate: bool = False) -> Lesson:
    """Prepare a scenario; train its teacher if ``work`` does not contain it.

    Args:
        work: Folder that keeps the teachers' outputs and the recordings.
        name: A key of ``SCENARIOS``.
        validate: Whether settings will be chosen with this lesson.
    """
    scenario = SCENARIOS[name]
    whole = data.load(DATASET, data_dir=os.environ.get("TFDS_DATA_DIR"))
    teacher = _teacher(work / f"teacher-{scenario.classes}.npz", whole, scenario)
    rows = np.flatnonzero(whole.train.labels < scenario.classes)
    test = _of_classes(whole.test, scenario.classes)
    if validate:
        rows = np.random.default_rng(0).permutation(rows)
        test = _rows_of(whole.train, np.sort(rows[:VALIDATION]))
        rows = np.sort(rows[VALIDATION:])
    labels = student_labels(whole.train.labels[rows], scenario)
    dataset = data.ImageDataset(
        DATASET,
        data.Split(whole.train.images[rows], labels),
        test,
        num_classes=scenario.classes,
        class_names=whole.class_names[: scenario.classes],
        num_unlabeled=int((labels == UNLABELED).sum()),
    )
    recording = recordings.write(
        work / "recordings" / f"{name}{', validation' if validate else ''}",
        dataset,
        batches=[teacher.train.of(rows)._asdict()],
        overwrite=True,
    )
    return Lesson(whole, dataset, recording, teacher)


def student_labels(labels: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Return the labels that students get: some are removed or wrong.

    The choice depends only on the labels and the scenario, so all methods and seeds get
    the same ones.
    """
    random = np.random.default_rng(1)
    labels = labels.astype(np.int32)
    if scenario.labels_per_class is not None:
        order = random.permutation(len(labels))
        kept = np.full(len(labels), UNLABELED, np.int32)
        for label in range(scenario.classes):
            rows = order[labels[order] == label][: scenario.labels_per_class]
            kept[rows] = label
        labels = kept
    wrong = random.random(len(labels)) < scenario.noise
    shift = random.integers(1, scenario.classes, len(labels))
    return np.where(wrong, (labels + shift) % scenario.classes, labels).astype(np.int32)


def _rows_of(split: data.Split, rows: np.ndarray) -> data.Split:
    return data.Split(split.images[rows], split.labels[rows])


def _of_classes(split: data.Split, classes: int) -> data.Split:
    return _rows_of(split, np.flatnonzero(split.labels < classes))


def _teacher(file: Path, whole: data.ImageDataset, scenario: Scenario) -> Answers:
    """Return the teacher's outputs, which are computed once and stored."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        train, test = answers(_train_teacher(whole, scenario.classes), whole)
        np.savez(file, *train, *test)
    with np.load(file) as stored:
        arrays = [stored[f"arr_{i}"] for i in range(4)]
    return Answers(Outputs(*arrays[:2]), Outputs(*arrays[2:]))


def _train_teacher(whole: data.ImageDataset, classes: int) -> training.FrozenNetwork:
    """Train a convolutional network with augmentation on the labels."""
    dataset = data.ImageDataset(
        DATASET,
        _of_classes(whole.train, classes),
        _of_classes(whole.test, classes),
        num_classes=classes,
    )

    def build(rngs: nnx.Rngs) -> nnx.Module:
        shape = dataset.image_shape
        return models.build(
            "vgg8", num_classes=classes, image_shape=shape, width=16, rngs=rngs
        )

    steps = TEACHER_EPOCHS * data.steps_per_epoch(len(dataset.train.labels), 64)
    schedule = training.learning_rate_schedule("warmup-cosine", 0.05, steps)
    program = training.compile_program(
        build,
        dataset,
        distillers.recipe("ce"),
        optimizer=training.decayed_sgd(schedule, momentum=0.9, weight_decay=5e-4),
        augmentation=data.Augmentation(crop_padding=2, flip=True),
    )
    loop, _ = training.fit(
        program, program.start(0), epochs=TEACHER_EPOCHS, progress=True
    )
    return training.freeze_teacher(program.student(loop), program.normalization)


def answers(network: training.FrozenNetwork, whole: data.ImageDataset) -> Answers:
    """Compute a network's outputs for all images."""

    @jax.jit
    def forward(variables, images):
        output = network.apply(variables, images)
        return output.logits, output.embedding

    def of(images: np.ndarray) -> Outputs:
        parts = [
            jax.device_get(forward(network.variables, images[i : i + _CHUNK]))
            for i in range(0, len(images), _CHUNK)
        ]
        return Outputs(*map(np.concatenate, zip(*parts, strict=True)))

    return Answers(of(whole.train.images), of(whole.test.images))
