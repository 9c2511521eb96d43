"""Relational losses transcribed from their definitions; shares no code with jaxkd.

Float64 NumPy, one pair or triplet of examples at a time.
"""

import math

import numpy as np
import scipy.special


def similarity_preserving(student, teacher):
    difference = _row_normalised_gram(teacher) - _row_normalised_gram(student)
    return np.sum(difference**2, axis=1) / len(student)


def _row_normalised_gram(features):
    rows = np.reshape(np.float64(features), (len(features), -1))
    return _unit_rows(np.array([[np.dot(a, b) for b in rows] for a in rows]))


def _unit_rows(matrix):
    norms = [math.sqrt(sum(x * x for x in row)) for row in matrix]
    return np.array(
        [row / norm if norm else row for row, norm in zip(matrix, norms, strict=True)]
    )


def huber(x):
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def relational_distance(student, teacher):
    s, t = _relative_distances(student), _relative_distances(teacher)
    b = len(s)
    return np.array(
        [sum(huber(s[i, j] - t[i, j]) for j in range(b)) / b for i in range(b)]
    )


def _relative_distances(x):
    distances = np.array([[math.dist(a, b) for b in x] for a in x])
    positive = distances[distances > 0]
    return distances / positive.mean() if positive.size else distances


def relational_angle(student, teacher):
    b = len(student)
    values = np.zeros(b)
    for i in range(b):
        for j in range(b):
            for k in range(b):
                cosines = [_angle_cosine(x, i, j, k) for x in (student, teacher)]
                values[i] += huber(cosines[0] - cosines[1]) / b**2
    return values


def _angle_cosine(x, i, j, k):
    to_j, to_k = x[j] - x[i], x[k] - x[i]
    lengths = math.sqrt(to_j @ to_j) * math.sqrt(to_k @ to_k)
    return to_j @ to_k / lengths if lengths else 0.0


def cosines(a, b):
    return _unit_rows(np.float64(a)) @ _unit_rows(np.float64(b)).T


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


def self_supervised_similarity(
    student_views, student_originals, teacher_views, teacher_originals, temperature=0.5
):
    q = scipy.special.softmax(
        cosines(student_views, student_originals) / temperature, 1
    )
    p = scipy.special.softmax(
        cosines(teacher_views, teacher_originals) / temperature, 1
    )
    return temperature**2 * scipy.special.rel_entr(p, q).sum(axis=1)


def inter_channel_correlation(student, teacher):
    leading, channels = student.shape[:-3], student.shape[-1]
    values = np.zeros(leading)
    for index in np.ndindex(leading):
        s, t = (x[index].reshape(-1, channels) for x in (student, teacher))
        difference = _unit_rows(s.T @ s) - _unit_rows(t.T @ t)
        values[index] = np.sum(difference**2) / channels
    return values
