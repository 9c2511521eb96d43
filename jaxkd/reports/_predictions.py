"""What a network says of every test image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import training
from jaxkd._watch import Watch
from jaxkd.data import Split


class Predictions(NamedTuple):
    """A network's answers.

    Attributes:
        probabilities: Of shape ``[examples, classes]``.
        logits: Of the chosen rows.
        embedding: Of the chosen rows.
    """

    probabilities: np.ndarray
    logits: np.ndarray
    embedding: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """The most probable class of every example."""
        return self.probabilities.argmax(axis=1)


def predict(
    network: training.FrozenNetwork,
    split: Split,
    chosen: np.ndarray,
    *,
    description: str,
    batch_size: int = 256,
) -> Predictions:
    """Asks a network about a whole split, a batch at a time.

    Args:
        network: In inference mode.
        split: The images; read in order, so that they may be streamed.
        chosen: Rows, in rising order, whose logits and embeddings are wanted.
        description: What the progress display calls this.
        batch_size: Examples per forward pass.
    """
    count = len(split.labels)
    batch_size = min(batch_size, count)

    @jax.jit
    def answer(variables, images):
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
            if rows < batch_size:  # filled up, so that one program serves all batches
                images = np.resize(images, (batch_size, *images.shape[1:]))
            answers = jax.device_get(answer(network.variables, images))
            here = chosen[(chosen >= start) & (chosen < start + rows)] - start
            probabilities.append(answers[0][:rows])
            logits.append(answers[1][here])
            embeddings.append(answers[2][here])
            watch(start + rows)
    return Predictions(*map(np.concatenate, (probabilities, logits, embeddings)))
