"""Train the studies' teacher and students."""

import functools
import os
from typing import NamedTuple

import optax
from flax import nnx

from experiments import _training
from experiments.means._optimizers import Rule
from jaxkd import data, distillers, models, training

TEACHER_WIDTH, TEACHER_EPOCHS = 256, 40
STUDENT_WIDTH, STUDENT_EPOCHS = 16, 60
BATCH_SIZE = 64
# A student whose loss overflows stays where it was, and the others go on.
_SKIPPED = 2**30


class Lesson(NamedTuple):
    """What the students of a study share.

    Attributes:
        dataset: Training and test images.
        teacher: The trained network.
        normalization: The normalization of its images.
    """

    dataset: data.ImageDataset
    teacher: nnx.Module
    normalization: data.Normalization


def load(name: str) -> data.ImageDataset:
    """Load ``digits``, or 10,000 images of a TFDS dataset of 28x28 as 14x14."""
    if name == "digits":
        return data.load(name)
    dataset = data.load(name, data_dir=os.environ.get("TFDS_DATA_DIR"), image_size=14)
    return data.take_subset(dataset, 10_000, seed=0)


def train_teacher(dataset: data.ImageDataset) -> Lesson:
    """Train the teacher of all students with cross-entropy."""
    steps = TEACHER_EPOCHS * data.steps_per_epoch(len(dataset.train.labels), BATCH_SIZE)
    program = training.compile_program(
        functools.partial(_build, dataset, TEACHER_WIDTH),
        dataset,
        distillers.recipe("ce"),
        optimizer=optax.sgd(optax.cosine_decay_schedule(0.05, steps), momentum=0.9),
        batch_size=BATCH_SIZE,
        augmentation=data.Augmentation(),
    )
    loop = _training.fit(program, seed=100, epochs=TEACHER_EPOCHS)
    return Lesson(dataset, program.student(loop), program.normalization)


def train_students(
    lesson: Lesson,
    distiller: distillers.Distiller,
    rule: Rule,
    *,
    trials: int,
    centered: bool,
) -> list[training.FrozenNetwork]:
    """Train students with a cosine schedule.

    Args:
        lesson: Dataset and teacher.
        distiller: The objective.
        rule: The optimizer.
        trials: Number of students; their seeds are 0, 1 and so on.
        centered: Whether the students' classifiers are centered before training.

    Returns:
        The trained students, in inference mode.
    """
    dataset = lesson.dataset
    steps = STUDENT_EPOCHS * data.steps_per_epoch(len(dataset.train.labels), BATCH_SIZE)
    teacher = training.freeze_teacher(lesson.teacher, lesson.normalization)

    def build(rngs):
        student = _build(dataset, STUDENT_WIDTH, rngs)
        return models.center_classifier(student) if centered else student

    program = training.compile_program(
        build,
        dataset,
        distiller,
        optimizer=rule.build(optax.cosine_decay_schedule(1.0, steps)),
        batch_size=BATCH_SIZE,
        teacher=teacher,
        normalization=lesson.normalization,
        augmentation=data.Augmentation(),
        fused=True,
        trials=trials,
        max_skipped=_SKIPPED,
    )
    loop = _training.fit(program, seed=0, epochs=STUDENT_EPOCHS)
    return _training.frozen(program, loop, trials)


def _build(dataset: data.ImageDataset, width: int, rngs: nnx.Rngs) -> nnx.Module:
    return models.build(
        "mlp",
        num_classes=dataset.num_classes,
        image_shape=dataset.image_shape,
        width=width,
        rngs=rngs,
    )
