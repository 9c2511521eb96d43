"""Relational losses transcribed from their definitions; shares no code with jaxkd.

Float64 NumPy, one pair or triplet of examples at a time.
"""

import math

import numpy as np


def similarity_preserving(student, teacher):
    difference = _row_normalized_gram(teacher) - _row_normalized_gram(student)
    return np.sum(difference**2, axis=1) / len(student)


def _row_normalized_gram(features):
    rows = np.reshape(np.float64(features), (len(features), -1))
    return unit_rows(np.array([[np.dot(a, b) for b in rows] for a in rows]))


def unit_rows(matrix):
    norms = [math.sqrt(sum(x * x for x in row)) for row in matrix]
    return np.array(
        [row / norm if norm else row for row, norm in zip(matrix, norms, strict=True)]
    )


def cosines(a, b):
    return unit_rows(np.float64(a)) @ unit_rows(np.float64(b)).T


def probabilistic_transfer(student, teacher):
    q, p = ((cosines(x, x) + 1) / 2 for x in (student, teacher))
    q, p = (x / x.sum(axis=1, keepdims=True) for x in (q, p))
    return np.mean(p * np.log((p + 1e-7) / (q + 1e-7)), axis=1)


def correlation_congruence(student, teacher):
    error = np.abs(student - teacher)
    return np.array([error[i] @ error[i + 1] for i in range(len(error) - 1)])


def correlation_congruence_kernel(student, teacher, gamma=0.4, order=2):
    def kernel(x):
        terms = (
            (2 * gamma) ** p / math.factorial(p) * cosines(x, x) ** p
            for p in range(order + 1)
        )
        return math.exp(-2 * gamma) * sum(terms)

    return np.sum((kernel(student) - kernel(teacher)) ** 2, axis=1) / len(student)
