"""Relational losses transcribed from their definitions; shares no code with jaxkd."""

import math

import numpy as np


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
