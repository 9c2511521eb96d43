"""Predictions of networks on the test set."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import runs, training
from jaxkd._watch import Watch
from jaxkd.data import ImageDataset, Split

_GRAPH_NODES = 64  # one batch, as published


class Predictions(NamedTuple):
    """Predictions of one network.

    Attributes:
        probabilities: Of all examples, of shape ``[examples, classes]``.
        logits: Of the chosen examples.
        embedding: Of the chosen examples.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    embedding: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of each example."""
        return self.probabilities.argmax(axis=1)


class RunPredictions(NamedTuple):
    """Predictions of a run's networks on its test images.

    Attributes:
        loaded: The trained network.
        student: Predictions of the trained network.
        teacher: Predictions of its teacher; None if there is none.
        nodes: Indices of the test images whose graph the page draws.
    """

    loaded: runs.LoadedNetwork
    student: Predictions
    teacher: Predictions | None
    nodes: np.ndarray


def predict_test_set(
    run: Path,
    dataset: ImageDataset,
    teacher: training.FrozenNetwork | None,
    *,
    trial: int = 0,
) -> RunPredictions:
    """Predict every test image with a run's network, and with its teacher if given.

    Args:
        run: The run folder.
        dataset: The run's dataset.
        teacher: The run's teacher, or None.
        trial: Index of the trial, for a run of several trials.

    Raises:
        ValueError: If the folder is not a run folder, has no finished checkpoint, or
            has no such trial.
    """
    loaded = runs.load_network(run, trial=trial)
    count = len(dataset.test.labels)
    random = np.random.default_rng(0)
    nodes = np.sort(random.choice(count, min(_GRAPH_NODES, count), replace=False))
    network = training.freeze_teacher(loaded.module, loaded.normalization)
    student = predict(network, dataset.test, nodes, description="predicting")
    answers = None
    if teacher is not None:
        description = "predicting with the teacher"
        answers = predict(teacher, dataset.test, nodes, description=description)
    return RunPredictions(loaded, student, answers, nodes)


def predict(
    network: training.FrozenNetwork,
    split: Split,
    chosen: np.ndarray,
    *,
    description: str,
    batch_size: int = 256,
) -> Predictions:
    """Predict all examples of a split, one batch at a time.

    Args:
        network: The network, in inference mode.
        split: The images. They are read in order, so they may be streamed.
        chosen: Indices, in increasing order, of the examples whose logits and
            embeddings are returned.
        description: Label of the progress display.
        batch_size: Examples per forward pass.
    """
    count = len(split.labels)
    batch_size = min(batch_size, count)

    @jax.jit
    def forward(variables, images):
        output = network.apply(variables, images)
        logits, embedding = (
            x.astype(jnp.float32) for x in (output.logits, output.embedding)
        )
        return jax.nn.softmax(logits), logits, embedding

    probabilities, logits, embeddings = [], [], []
    with Watch(description, count) as watch:
        for start in range(0, count, batch_size):
            images = np.asarray(split.images[start : start + batch_size])
            rows = len(images)
            if rows < batch_size:  # pad, so that one program serves all batches
                images = np.resize(images, (batch_size, *images.shape[1:]))
            outputs = jax.device_get(forward(network.variables, images))
            here = chosen[(chosen >= start) & (chosen < start + rows)] - start
            probabilities.append(outputs[0][:rows])
            logits.append(outputs[1][here])
            embeddings.append(outputs[2][here])
            watch(start + rows)
    return Predictions(*map(np.concatenate, (probabilities, logits, embeddings)))
