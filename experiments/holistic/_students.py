"""Train students, and judge their predictions and embeddings."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments import _training
from experiments.holistic import _lessons, _probe
from experiments.holistic._methods import METHODS, Setting
from jaxkd import data, models, training

BATCH_SIZE = 64
Build = Callable[[data.ImageDataset, nnx.Rngs], nnx.Module]


def _mlp(dataset: data.ImageDataset, rngs: nnx.Rngs) -> nnx.Module:
    return models.MLP(28 * 28, (48, 48), num_classes=dataset.num_classes, rngs=rngs)


def _transformer(dataset: data.ImageDataset, rngs: nnx.Rngs) -> nnx.Module:
    return models.VisionTransformer(
        (28, 28),
        32,
        patch_size=7,
        depth=4,
        heads=2,
        num_classes=dataset.num_classes,
        in_channels=1,
        rngs=rngs,
    )


def _convolutional(dataset: data.ImageDataset, rngs: nnx.Rngs) -> nnx.Module:
    return models.build(
        "vgg8",
        num_classes=dataset.num_classes,
        image_shape=dataset.image_shape,
        width=2,
        rngs=rngs,
    )


STUDENTS: dict[str, Build] = {
    "MLP": _mlp,
    "ViT": _transformer,
    "CNN": _convolutional,
}
"""The students: a perceptron with two hidden layers of 48, a vision transformer of four
blocks and tokens of size 32, and the teacher's network with an eighth of its width."""


def train(
    lesson: _lessons.Lesson,
    student: str,
    method: str,
    setting: Setting,
    *,
    seed: int,
    trials: int,
    epochs: int,
) -> list[training.FrozenNetwork]:
    """Train students from the recorded teacher, without augmentation.

    Args:
        lesson: Images, labels and the teacher's outputs.
        student: A key of ``STUDENTS``.
        method: A key of ``METHODS``.
        setting: One of the method's settings.
        seed: Seed of the first student; the others follow.
        trials: Number of students.
        epochs: Epochs of the run.

    Returns:
        The trained students, in inference mode.
    """
    chosen = METHODS[method]
    rows = len(lesson.dataset.train.labels)
    schedule = training.learning_rate_schedule(
        "cosine",
        setting.learning_rate,
        epochs * data.steps_per_epoch(rows, BATCH_SIZE),
    )
    program = training.compile_program(
        lambda rngs: STUDENTS[student](lesson.dataset, rngs),
        lesson.dataset,
        chosen.build(setting.value, epochs),
        # Its steps do not depend on the scale of a method's loss.
        optimizer=optax.adamw(schedule, weight_decay=chosen.decay(setting.value)),
        batch_size=BATCH_SIZE,
        teacher=lesson.recording,
        augmentation=data.Augmentation(),
        fused=True,
        steps_per_call=16,
        trials=trials,
    )
    loop = _training.fit(program, seed=seed, epochs=epochs)
    return _training.frozen(program, loop, trials)


def accuracy(network: training.FrozenNetwork, split: data.Split) -> float:
    """Return the share of correct predictions."""
    predicted = training.predict_logits(network, split.images, batch_size=500)
    return float((predicted.argmax(1) == split.labels).mean())


def judge(lesson: _lessons.Lesson, answers: _lessons.Answers) -> dict[str, float]:
    """Measure a network's predictions and embeddings on the test images.

    Args:
        lesson: What it was trained on.
        answers: Its outputs for all images.

    Returns:
        ``accuracy``; ``recall``, recall@1 of the test images' embeddings by cosine;
        ``nll``, the negative log-likelihood. If there are classes that it was not
        trained on, also ``new_recall`` and ``new_probe``, the accuracy of a linear
        probe of the embeddings, both for these.
    """
    whole, classes = lesson.whole, lesson.dataset.num_classes
    seen = whole.test.labels < classes
    logits, labels = answers.test.logits[seen], whole.test.labels[seen]
    found = {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "nll": _negative_log_likelihood(logits, labels),
        "recall": _probe.recall(answers.test.embedding[seen], labels),
    }
    if not seen.all():
        train, test = whole.train.labels >= classes, ~seen
        labels = whole.test.labels[test]
        found["new_recall"] = _probe.recall(answers.test.embedding[test], labels)
        found["new_probe"] = _probe.linear(
            answers.train.embedding[train],
            whole.train.labels[train],
            answers.test.embedding[test],
            labels,
        )
    return found


def _negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    log_probabilities = jax.nn.log_softmax(jnp.asarray(logits))
    return float(-log_probabilities[jnp.arange(len(labels)), labels].mean())
