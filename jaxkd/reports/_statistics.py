"""Statistics for a run's page, in NumPy."""

from typing import NamedTuple

import numpy as np

# Most papers use this number of bins for the calibration error.
CALIBRATION_BINS = 15


class Calibration(NamedTuple):
    """Accuracy of a network at each confidence, as sums that can be added up.

    Attributes:
        counts: Number of examples in each confidence bin of equal width.
        confidences: Sum of the confidences in each bin.
        correct: Number of correct predictions in each bin.
    """

    counts: np.ndarray
    confidences: np.ndarray
    correct: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """Bounds of the bins, one more than there are bins."""
        return np.linspace(0.0, 1.0, len(self.counts) + 1)

    @property
    def confidence(self) -> np.ndarray:
        """Mean confidence in each bin; NaN in an empty bin."""
        with np.errstate(invalid="ignore"):
            return self.confidences / self.counts

    @property
    def accuracy(self) -> np.ndarray:
        """Share of correct predictions in each bin; NaN in an empty bin."""
        with np.errstate(invalid="ignore"):
            return self.correct / self.counts

    @property
    def error(self) -> float:
        r"""The expected calibration error, with :math:`n_b` examples in bin b.

        .. math::
            \mathrm{ECE} = \sum_b \frac{n_b}{n}
                \lvert \mathrm{acc}_b - \mathrm{conf}_b \rvert
        """
        gaps = np.abs(self.confidences - self.correct)
        return float(gaps.sum() / self.counts.sum())


class Agreement(NamedTuple):
    """Agreement between the predictions of teacher and student.

    Attributes:
        equal: Number of examples with the same prediction.
        both: Number of examples that both predict correctly.
        only_teacher: Number that only the teacher predicts correctly.
        only_student: Number that only the student predicts correctly.
        neither: Number that neither predicts correctly.
    """

    equal: int
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
    """Compare confidence and accuracy in bins of equal width.

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
    counts, right = (np.bincount(x, minlength=bins) for x in (bin_of, bin_of[correct]))
    return Calibration(counts, np.bincount(bin_of, confidence, minlength=bins), right)


def agreement(
    student: np.ndarray, teacher: np.ndarray, labels: np.ndarray
) -> Agreement:
    """Compare the classes that two networks predict."""
    counts = np.bincount(outcomes(student, teacher, labels), minlength=4)
    return Agreement(int(np.sum(student == teacher)), *map(int, counts))


def outcomes(
    student: np.ndarray, teacher: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Return for each example who is right, as a place in :class:`Agreement`.

    The values are 0 for both, 1 for only the teacher, 2 for only the student, and 3
    for neither.
    """
    return (student != labels) * 1 + (teacher != labels) * 2


def disagreement(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    r"""Compute the total variation distance of each pair of distributions.

    .. math::
        \frac{1}{2} \sum_c \lvert p_c - q_c \rvert \in [0, 1]
    """
    return 0.5 * np.abs(student - teacher).sum(axis=1)


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
