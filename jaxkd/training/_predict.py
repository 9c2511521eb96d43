"""Logits of all images, and results for each class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._watch import Watch
from jaxkd.data import Streamed
from jaxkd.training._step.frozen import FrozenNetwork


def predict_logits(
    network: FrozenNetwork,
    images: Shaped[np.ndarray, "images h w c"] | Streamed,
    *,
    batch_size: int = 256,
) -> Float[np.ndarray, "images classes"]:
    """Compute the logits of all images, one batch at a time.

    Args:
        network: Result of :func:`freeze` or :func:`freeze_teacher`.
        images: Images as stored, or streamed ones. They are read in order.
        batch_size: Images per forward pass. The last batch is filled up, so there is
            one compiled program.

    Returns:
        The logits, float32.

    Raises:
        InvalidInputError: If there are no images, or the batch size is not positive.

    Example:
        >>> from flax import nnx
        >>> from jaxkd import data, models, training
        >>> model = models.MLP(64, (32,), num_classes=10, rngs=nnx.Rngs(0))
        >>> digits = data.load("digits")
        >>> frozen = training.freeze_teacher(model)
        >>> training.predict_logits(frozen, digits.test.images).shape
        (360, 10)
    """
    _checks.check_at_least(1, batch_size=batch_size)
    count = len(images)
    if not count:
        raise InvalidInputError("images has no image to predict", argument="images")
    batch_size = min(batch_size, count)

    @jax.jit
    def forward(variables, images):
        return network.apply(variables, images).logits.astype(jnp.float32)

    found = []
    with Watch("predicting", count) as watch:
        for start in range(0, count, batch_size):
            batch = np.asarray(images[start : start + batch_size])
            rows = len(batch)
            if rows < batch_size:
                batch = np.resize(batch, (batch_size, *batch.shape[1:]))
            found.append(np.asarray(forward(network.variables, batch))[:rows])
            watch(start + rows)
    return np.concatenate(found)


class ClassResults(NamedTuple):
    """Results of predictions for each class.

    Attributes:
        confusion: Number of examples of each class (rows) that were predicted as each
            class (columns).
    """

    confusion: Int[np.ndarray, "classes classes"]

    @property
    def support(self) -> Int[np.ndarray, " classes"]:
        """Number of examples of each class."""
        return self.confusion.sum(axis=1)

    @property
    def recall(self) -> Float[np.ndarray, " classes"]:
        """Share of the examples of a class that were predicted as it; NaN for none."""
        return _share(self.confusion.diagonal(), self.support)

    @property
    def precision(self) -> Float[np.ndarray, " classes"]:
        """Share of the predictions of a class that are right; NaN for none."""
        return _share(self.confusion.diagonal(), self.confusion.sum(axis=0))


def class_results(
    labels: Int[np.ndarray, " examples"],
    predicted: Int[np.ndarray, " examples"],
    num_classes: int,
) -> ClassResults:
    """Count how often each class was predicted as each class.

    Args:
        labels: The class of each example.
        predicted: The predicted class of each example.
        num_classes: Number of classes.

    Returns:
        The confusion matrix, from which precision, recall and support follow.

    Raises:
        InvalidInputError: If a class is out of range.

    Example:
        >>> import numpy as np
        >>> from jaxkd import training
        >>> results = training.class_results(
        ...     np.array([0, 0, 1]), np.array([0, 1, 1]), 2
        ... )
        >>> results.confusion.tolist(), results.recall.tolist()
        ([[1, 1], [0, 1]], [0.5, 1.0])
    """
    for name, classes in (("labels", labels), ("predicted", predicted)):
        if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
            raise InvalidInputError(
                f"{name} must lie in 0 to {num_classes - 1}, got {classes.min()} to "
                f"{classes.max()}",
                argument=name,
            )
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    return ClassResults(confusion)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
