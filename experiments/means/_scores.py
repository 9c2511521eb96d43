"""Scores of logits, in NumPy."""

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import rankdata

from jaxkd.reports._statistics import calibration


def center(logits: np.ndarray) -> np.ndarray:
    """Subtract the mean logit of each image, in float64."""
    wide = np.asarray(logits, np.float64)
    return wide - wide.mean(-1, keepdims=True)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean negative log-likelihood, in nats."""
    log_p = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return float(-log_p[np.arange(len(labels)), labels].mean())


def ece(logits: np.ndarray, labels: np.ndarray) -> float:
    """Compute the expected calibration error of 15 bins, in percent."""
    p = np.exp(log_softmax(np.asarray(logits, np.float64), axis=-1))
    return 100 * calibration(p, labels, bins=15).error


def energy_auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Compute how well the energy separates images of known and unknown classes.

    Args:
        known: Logits for images of known classes.
        unknown: Logits for the others.

    Returns:
        The probability, in percent, that logsumexp of a known image is the larger one.
    """
    scores = [logsumexp(np.asarray(x, np.float64), axis=-1) for x in (known, unknown)]
    ranks = rankdata(np.concatenate(scores))[: len(known)]
    above = ranks.sum() - len(known) * (len(known) + 1) / 2
    return float(100 * above / (len(known) * len(unknown)))
