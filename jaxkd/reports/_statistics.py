"""Statistics for a run's page, in NumPy."""

from typing import NamedTuple

import numpy as np

# Most papers use this number of bins for the calibration error.
CALIBRATION_BINS = 15


class Calibration(NamedTuple):
    """Accuracy of a network at each confidence.

    Attributes:
        edges: Bounds of the confidence bins, one more than there are bins.
        counts: Number of examples in each bin.
        confidence: Mean confidence in each bin; NaN in an empty bin.
        accuracy: Share of correct predictions in each bin; NaN in an empty bin.
        error: The expected calibration error: the mean distance between confidence and
            accuracy, each bin weighted by its number of examples.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


class Agreement(NamedTuple):
    """Agreement between the predictions of teacher and student.

    Attributes:
        equal: Share of examples with the same prediction.
        both: Number of examples that both predict correctly.
        only_teacher: Number that only the teacher predicts correctly.
        only_student: Number that only the student predicts correctly.
        neither: Number that neither predicts correctly.
    """

    equal: float
    both: int
    only_teacher: int
    only_student: int
    neither: int


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count the examples of each class (row) that are predicted as each (column)."""
    cells = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def most_confused(matrix: np.ndarray, n: int) -> list[tuple[int, int, int]]:
    """Return the ``n`` most frequent mistakes: class, predicted class, count."""
    wrong = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    order = np.argsort(-wrong, axis=None, kind="stable")[:n]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


def calibration(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = CALIBRATION_BINS
) -> Calibration:
    r"""Compare confidence and accuracy in bins of equal width.

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n}
            \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert

    Args:
        probabilities: Predicted probabilities, of shape ``[examples, classes]``.
        labels: The class of each example.
        bins: Number of bins in ``[0, 1]``. A confidence on a bound belongs to the bin
            below it.
    """
    confidence = np.asarray(probabilities, np.float64).max(axis=1)
    correct = np.argmax(probabilities, axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    sums = [np.bincount(bin_of, x, minlength=bins) for x in (confidence, correct)]
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (total / counts for total in sums)
    error = float(np.abs(sums[0] - sums[1]).sum() / len(confidence))
    return Calibration(edges, counts, mean_confidence, accuracy, error)


def agreement(
    student: np.ndarray, teacher: np.ndarray, labels: np.ndarray
) -> Agreement:
    """Compare the classes that two networks predict."""
    right_s, right_t = student == labels, teacher == labels
    return Agreement(
        equal=float(np.mean(student == teacher)),
        both=int(np.sum(right_s & right_t)),
        only_teacher=int(np.sum(right_t & ~right_s)),
        only_student=int(np.sum(right_s & ~right_t)),
        neither=int(np.sum(~right_s & ~right_t)),
    )


def confident_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, n: int
) -> np.ndarray:
    """Return the rows of the ``n`` most confident mistakes, in falling order."""
    wrong = np.flatnonzero(np.argmax(probabilities, axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:n]]


def principal_plane(features: np.ndarray) -> np.ndarray:
    """Project onto the first two principal components, scaled to ``[0, 1]``."""
    centered = np.asarray(features, np.float64)
    centered = centered - centered.mean(axis=0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:2]
    plane = np.zeros((len(centered), 2))
    plane[:, : len(directions)] = centered @ directions.T
    span = np.ptp(plane, axis=0)
    return (plane - plane.min(axis=0)) / np.where(span > 0, span, 1.0)


def spread_out(
    positions: np.ndarray, *, distance: float, rounds: int = 200
) -> np.ndarray:
    """Move points apart until hardly any two are closer than ``distance``.

    Args:
        positions: Points in the unit square, of shape ``[points, 2]``. They stay in
            the square.
        distance: The minimum distance.
        rounds: Maximum number of rounds. In each, every pair that is too close moves
            apart by half of its overlap.
    """
    # A fixed jitter separates points that coincide, now or later in a corner.
    jitter = np.random.default_rng(0).normal(0, 1e-3, positions.shape)
    positions = positions + jitter
    for _ in range(rounds):
        offsets = positions[:, None] - positions[None, :]
        meet = (offsets**2).sum(-1, keepdims=True) == 0
        offsets = np.where(meet, jitter[:, None] - jitter[None, :], offsets)
        lengths = np.sqrt((offsets**2).sum(-1)) + np.eye(len(positions)) * 2 * distance
        overlap = np.clip(distance - lengths, 0.0, None)
        if not overlap.any():
            break
        push = offsets / lengths[..., None] * overlap[..., None] / 2
        positions = np.clip(positions + push.sum(axis=1), 0.0, 1.0)
    return positions


def undirected(neighbors: np.ndarray) -> list[tuple[int, int]]:
    """Return the undirected edges of a neighbor graph, each once, without loops."""
    pairs = {
        (min(i, int(j)), max(i, int(j)))
        for i, row in enumerate(neighbors)
        for j in row
        if i != j
    }
    return sorted(pairs)
